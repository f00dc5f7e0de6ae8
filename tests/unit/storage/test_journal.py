"""What only the journal's rows do: fence, forget, and survive what cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Project, Run, RunError
from phoenix.engine.queue import open_queue
from phoenix.storage import journal, projects, runs, transitions
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.direct import Direct
from phoenix.storage.journal import JournalRows
from phoenix.storage.settling import Settlements
from phoenix.storage.tables import model_calls, model_journal
from phoenix.storage.transitions import End
from tests.chaos.ledger import Ledger
from tests.chaos.points import Boundaries, Phase, Point, watch_database

KEY = CallKey(step="plan:1", request="sha256:a", ordinal=0)
OTHER = CallKey(step="plan:1", request="sha256:a", ordinal=1)
GOOD = KeptAnswer(message={"content": "good"}, model="m")
BAD = KeptAnswer(message={"content": ""}, model="m", accepted=False)
CALL = ModelCall(agent="coding", model="m")


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return a migrated database."""
    engine = connect(migrated_database_url)
    yield engine
    await engine.dispose()


@pytest.fixture
async def settle(migrated_database_url: str) -> AsyncIterator[Settlements]:
    """Return what counts calls."""
    queue = open_queue(conninfo(migrated_database_url))
    async with queue.open_async():
        yield Settlements(Direct(queue))


@pytest.fixture
async def run(database: AsyncEngine, settle: Settlements) -> Run:
    """Return a running run, with one usable and one unusable answer."""
    now = datetime.now(UTC)
    project = Project(id=uuid4(), title="t", requirement="r", model="m", created_at=now)
    made = Run(id=uuid4(), project_id=project.id, flow="develop", status="running", attempt=1, created_at=now)
    async with transaction(database) as connection:
        await projects.add(connection, project)
        await runs.add(connection, made, flow_input={})
    rows = JournalRows(database, made, settle)
    await rows.keep(KEY, GOOD, CALL)
    await rows.keep(OTHER, BAD, CALL)
    return made


async def count(database: AsyncEngine, table: object) -> int:
    """Return how many rows a table has."""
    async with transaction(database) as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())  # type: ignore[arg-type]


async def test_a_superseded_attempts_answer_is_counted_but_not_kept(
    database: AsyncEngine, run: Run, settle: Settlements
) -> None:
    """It was paid; what the new attempt replays is its own."""
    async with transaction(database) as connection:
        await runs.hand_back(connection, run.id)
        await journal.forget_failed(connection, run)
    await JournalRows(database, run, settle).keep(KEY, GOOD, CALL)
    assert await count(database, model_journal) == 0
    assert await count(database, model_calls) == 3


async def test_the_next_attempt_finds_what_the_one_before_kept(
    database: AsyncEngine, run: Run, settle: Settlements
) -> None:
    """A hand-over between workers pays nothing again."""
    async with transaction(database) as connection:
        await runs.hand_back(connection, run.id)
    assert await JournalRows(database, run.model_copy(update={"attempt": 2}), settle).find(KEY) == GOOD


@pytest.mark.parametrize(
    ("category", "left"), [("permanent", 0), ("security", 0), ("transient", 1), ("budget", 1)]
)
async def test_a_retry_forgets_what_led_to_the_failure(
    database: AsyncEngine, run: Run, settle: Settlements, category: str, left: int
) -> None:
    """An outage or a spent budget is not the answers' fault: only unusable ones go."""
    failed = run.model_copy(update={"error": RunError(code="x", category=category, message="x")})
    async with transaction(database) as connection:
        await runs.hand_back(connection, run.id)
        await journal.forget_failed(connection, failed)
    assert await count(database, model_journal) == left
    assert await JournalRows(database, run, settle).find(OTHER) is None


@pytest.mark.parametrize(("status", "left"), [("success", 0), ("cancelled", 0), ("failed", 2)])
async def test_the_journal_ends_with_its_run(database: AsyncEngine, run: Run, status: str, left: int) -> None:
    """A failed run may be tried again; the others never ask again."""
    async with transaction(database) as connection:
        await transitions.end(connection, End(run, status))
    assert await count(database, model_journal) == left


async def test_an_answer_of_another_versions_form_is_missing(
    database: AsyncEngine, run: Run, settle: Settlements
) -> None:
    """A newer or older Phoenix asks again, which costs a call and nothing else."""
    async with transaction(database) as connection:
        await connection.execute(update(model_journal).values(answer={"format": 2, "text": "hello"}))
    assert await JournalRows(database, run, settle).find(KEY) is None


@pytest.mark.parametrize("phase", ["before", "after"])
async def test_an_answer_outlasts_lost_connections(
    database: AsyncEngine,
    run: Run,
    settle: Settlements,
    phase: Phase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever the connection breaks while an answer is stored, it is stored and counted once."""
    monkeypatch.setattr(psycopg.AsyncConnection, "wait", psycopg.AsyncConnection.wait)
    boundaries = Boundaries(Ledger(tmp_path))
    watch_database(boundaries)
    rows = JournalRows(database, run, settle)
    boundaries.arm(None)
    await rows.keep(CallKey(step="s", request="first", ordinal=0), GOOD, CALL)
    crossed = list(boundaries.trace)
    # The statement, and its commit.
    assert len(crossed) == 2
    for number, boundary in enumerate(crossed):
        boundaries.arm(Point(boundary, phase, "fail"))
        await rows.keep(CallKey(step="s", request=f"again {number}", ordinal=0), GOOD, CALL)
        assert boundaries.fired
    boundaries.disarm()
    assert await count(database, model_journal) == await count(database, model_calls) == 3 + len(crossed)


async def test_an_answer_that_cannot_be_counted_is_not_kept(
    database: AsyncEngine, run: Run, settle: Settlements
) -> None:
    """Count and answer are one transaction: there is never one without the other."""
    third = CallKey(step="plan:1", request="sha256:c", ordinal=0)
    unfit = CALL.model_copy(update={"input_tokens": 2**70})
    with pytest.raises(psycopg.DataError):
        await JournalRows(database, run, settle).keep(third, GOOD, unfit)
    assert await count(database, model_journal) == 2
    assert await count(database, model_calls) == 2
