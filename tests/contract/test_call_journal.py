"""Port `CallJournal`, in memory and over rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest

from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Project, Run
from phoenix.engine.queue import open_queue
from phoenix.llm.journal import MemoryJournal
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import CallJournal, UsageLog
from phoenix.storage import projects, runs
from phoenix.storage.database import connect, conninfo, transaction
from phoenix.storage.direct import Direct
from phoenix.storage.journal import JournalRows
from phoenix.storage.settling import Settlements
from phoenix.storage.usage import UsageRows

CALL = ModelCall(
    agent="coding", model="openai:test", input_tokens=10, output_tokens=2, cost_usd=Decimal("0.25")
)


@dataclass
class Kept:
    """A journal and the usage log that it counts in."""

    journal: CallJournal
    usage: UsageLog


def key(request: str = "sha256:a", ordinal: int = 0) -> CallKey:
    """Return the key of a call."""
    return CallKey(step="plan:1", request=request, ordinal=ordinal)


def said(text: str, **fields: object) -> KeptAnswer:
    """Return an answer."""
    return KeptAnswer(message={"content": text}, model="openai:test", **fields)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "rows"])
async def kept(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[Kept]:
    """Return each kind of journal, empty."""
    if request.param == "memory":
        usage = MemoryUsage()
        yield Kept(MemoryJournal(usage), usage)
        return
    database = connect(migrated_database_url)
    now = datetime.now(UTC)
    project = Project(id=uuid4(), title="t", requirement="r", model="m", created_at=now)
    run = Run(id=uuid4(), project_id=project.id, flow="develop", status="running", attempt=1, created_at=now)
    async with transaction(database) as connection:
        await projects.add(connection, project)
        await runs.add(connection, run, flow_input={})
    queue = open_queue(conninfo(migrated_database_url))
    async with queue.open_async():
        rows = JournalRows(database, run, Settlements(Direct(queue)))
        yield Kept(rows, UsageRows(database, project.id, run.id))
    await database.dispose()


async def test_an_answer_is_found_under_its_key_alone(kept: Kept) -> None:
    """Another request, or the same one asked once more, is another call."""
    assert await kept.journal.find(key()) is None
    await kept.journal.keep(key(), said("hello", cost_usd=Decimal("0.25"), unreadable=["bash"]), CALL)
    found = await kept.journal.find(key())
    assert found == said("hello", cost_usd=Decimal("0.25"), unreadable=["bash"])
    assert await kept.journal.find(key(ordinal=1)) is None
    assert await kept.journal.find(key("sha256:b")) is None


async def test_a_kept_answer_is_counted(kept: Kept) -> None:
    """What was kept was paid; looking at it costs nothing."""
    await kept.journal.keep(key(), said("hello"), CALL)
    await kept.journal.find(key())
    used = await kept.usage.total()
    assert (used.calls, used.input_tokens, used.cost_usd) == (1, 10, Decimal("0.25"))


async def test_a_call_without_a_key_is_only_counted(kept: Kept) -> None:
    """What is asked outside of a graph is never done again by itself."""
    await kept.journal.keep(None, said("hello"), CALL)
    assert (await kept.usage.total()).calls == 1
    assert await kept.journal.find(key()) is None


async def test_a_later_answer_takes_an_unreadable_ones_place(kept: Kept) -> None:
    """The call was made again, so its new answer is the one to find."""
    await kept.journal.keep(key(), said("old"), CALL)
    await kept.journal.keep(key(), said("new"), CALL)
    assert await kept.journal.find(key()) == said("new")
