"""Artifacts, usage, events and URLs in storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.frozen import digest_of
from phoenix.domain.project import Answers, Questions, Request
from phoenix.domain.run import ModelCall, Project, Run, Usage
from phoenix.errors import NotFound, SettingInvalid
from phoenix.storage import artifacts, events, projects, runs
from phoenix.storage.artifacts import ArtifactRows
from phoenix.storage.database import connect, conninfo, parse_url, transaction
from phoenix.storage.events import EventRows
from phoenix.storage.usage import UsageRows


@pytest.fixture
async def database(migrated_database_url: str) -> AsyncIterator[AsyncEngine]:
    """Return an engine over a database with Phoenix's schema."""
    engine = connect(migrated_database_url)
    yield engine
    await engine.dispose()


async def add_run(database: AsyncEngine) -> Run:
    """Store a project with its run."""
    now = datetime.now(UTC)
    project = Project(id=uuid4(), title="T", requirement="R", model="m", created_at=now)
    run = Run(id=uuid4(), project_id=project.id, flow="f", status="pending", created_at=now)
    async with transaction(database) as connection:
        await projects.add(connection, project)
        await runs.add(connection, run, flow_input={"value": None})
    return run


async def test_an_artifact_comes_back_equal_by_its_digest(database: AsyncEngine) -> None:
    """Storing is idempotent, and the digest is the model's own."""
    rows = ArtifactRows(database, (await add_run(database)).project_id)
    request = Request(text="Build it. é \U0001f525", repository=None)
    assert await rows.put(request) == await rows.put(request) == request.digest()
    assert await rows.get(request.digest(), Request) == request


async def test_an_artifact_is_found_by_its_kind_and_project_only(database: AsyncEngine) -> None:
    """Another kind or another project has no such artifact."""
    rows = ArtifactRows(database, (await add_run(database)).project_id)
    other = ArtifactRows(database, (await add_run(database)).project_id)
    digest = await rows.put(Request(text="x"))
    with pytest.raises(NotFound):
        await rows.get(digest, Questions)
    with pytest.raises(NotFound):
        await other.get(digest, Request)


async def test_an_artifact_is_cleaned_of_what_cannot_be_stored(database: AsyncEngine) -> None:
    """A NUL becomes a replacement character, and the digest is that of what is stored."""
    rows = ArtifactRows(database, (await add_run(database)).project_id)
    digest = await rows.put(Request(text="a\x00b"))
    stored = await rows.get(digest, Request)
    assert stored.text == "a\ufffdb"
    assert stored.digest() == digest


async def test_the_latest_of_each_kind_is_the_last_one_stored(database: AsyncEngine) -> None:
    """A document that comes back after another one is the latest again."""
    run = await add_run(database)
    rows = ArtifactRows(database, run.project_id)
    for text in ("one", "two", "one"):
        await rows.put(Request(text=text))
    await rows.put(Answers(request=digest_of("x")))
    async with transaction(database) as connection:
        latest = await artifacts.latest(connection, run.project_id)
    assert set(latest) == {"request", "answers"}
    assert latest["request"]["text"] == "one"


async def test_usage_sums_over_all_runs_of_a_project(database: AsyncEngine) -> None:
    """Costs are exact."""
    run = await add_run(database)
    usage = UsageRows(database, run.project_id, run.id)
    assert await usage.total() == Usage()
    for _ in range(3):
        await usage.add(
            ModelCall(
                agent="coder",
                model="m",
                input_tokens=10,
                output_tokens=2,
                cost_usd=Decimal("0.1"),
                seconds=0.5,
            )
        )
    assert await usage.total() == Usage(calls=3, input_tokens=30, output_tokens=6, cost_usd=Decimal("0.3"))


async def test_an_unknown_price_makes_the_cost_unknown(database: AsyncEngine) -> None:
    """Nothing is guessed."""
    run = await add_run(database)
    usage = UsageRows(database, run.project_id, run.id)
    await usage.add(ModelCall(agent="a", model="m", cost_usd=Decimal(1)))
    await usage.add(ModelCall(agent="a", model="m", cost_usd=None))
    assert (await usage.total()).cost_usd is None


async def test_concurrent_writers_number_events_without_gap(database: AsyncEngine) -> None:
    """Numbers are one after the other, also when some writers roll back."""
    project_id = (await add_run(database)).project_id

    async def write(n: int) -> None:
        try:
            async with transaction(database) as connection:
                await events.append(connection, project_id, "thing_happened", {"n": n})
                if n % 3 == 0:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            return

    await asyncio.gather(*(write(n) for n in range(30)))
    stored = await EventRows(database).read(project_id)
    assert [e.seq for e in stored] == list(range(1, 21))


async def test_an_event_of_no_project_is_refused(database: AsyncEngine) -> None:
    """Events belong to projects."""
    with pytest.raises(NotFound):
        await EventRows(database).append(UUID(int=1), "thing_happened", {})


async def test_event_data_is_cleaned(database: AsyncEngine) -> None:
    """What tools print may hold anything."""
    rows = EventRows(database)
    project_id = (await add_run(database)).project_id
    await rows.append(project_id, "tool_ended", {"out": "\x00\ud800", "n": float("nan"), "big": 2**80})
    (event,) = await rows.read(project_id)
    assert event.data == {"out": "\ufffd\ufffd", "n": None, "big": str(2**80)}


@pytest.mark.parametrize(
    "url", ["postgres://u:p@h:1/d", "postgresql://u:p@h:1/d", "postgresql+psycopg://u:p@h:1/d"]
)
def test_any_spelling_of_a_postgresql_url_is_taken(url: str) -> None:
    """The driver is Phoenix's own business."""
    assert parse_url(url).drivername == "postgresql+psycopg"
    assert conninfo(url) == "postgresql://u:p@h:1/d"


@pytest.mark.parametrize("url", ["sqlite:///x", "not a url with secret", ""])
def test_another_database_is_refused_without_repeating_the_url(url: str) -> None:
    """A URL may hold a password."""
    with pytest.raises(SettingInvalid) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)
