"""Which schema a version of Phoenix works with, and what a migration may do while others are connected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import procrastinate.schema
import psycopg
import pytest

from phoenix.errors import NotFound, SchemaInUse, SchemaTooNew, SchemaTooOld
from phoenix.storage import migrate, queue_schema, schema
from phoenix.storage.database import connect, conninfo
from phoenix.storage.migrate import downgrade, status, upgrade
from phoenix.storage.schema import Found, Revision
from tests.unit.storage.schema_dump import dump

LAST = schema.head()
NEW = "9001"


async def execute(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo(url), autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement)  # type: ignore[call-overload]


async def migrated_by_a_newer_one(url: str, *, contracts: str = "") -> None:
    """Do to a database what a later release's migration does to its records."""
    await execute(
        url,
        f"UPDATE alembic_version SET version_num = '{NEW}'",
        "INSERT INTO phoenix_schema (part, name, version, contracts)"
        f" VALUES ('phoenix', '{NEW}', '7.2.0', '{contracts}')",
    )


@asynccontextmanager
async def process(url: str, *, phoenix: str, queue: str = "") -> AsyncIterator[None]:
    """Be connected as a process of another version is."""
    name = f"phoenix/{phoenix} queue/{queue or queue_schema.version()}"
    async with await psycopg.AsyncConnection.connect(conninfo(url), application_name=name):
        yield


async def check(url: str) -> None:
    engine = connect(url)
    try:
        await migrate.check(engine)
    finally:
        await engine.dispose()


@pytest.fixture
def contracting(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the last migration be one that removes what Phoenix before 5 needs."""
    known = schema.known()
    changed = (*known[:-1], Revision(LAST, contracts="5.0.0"))
    monkeypatch.setattr(schema, "known", lambda: changed)
    return known[-2].name


@pytest.fixture
def later_queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the library ship one file more of each kind; return their folder."""
    for path in Path(procrastinate.schema.migrations_path).glob("*.sql"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "04.00.00_01_pre_add.sql").write_text("ALTER TABLE procrastinate_jobs ADD added text;")
    (tmp_path / "04.00.00_50_post_drop.sql").write_text("ALTER TABLE procrastinate_jobs DROP attempts;")
    monkeypatch.setattr(procrastinate.schema, "migrations_path", tmp_path)
    return tmp_path


async def test_a_current_schema_is_accepted(migrated_database_url: str) -> None:
    """Nothing is said where nothing is wrong."""
    await check(migrated_database_url)
    assert (await status(migrated_database_url)).waiting == []


async def test_a_newer_schema_is_refused_naming_what_to_install(migrated_database_url: str) -> None:
    """A migration that removes what this version needs ends its work, at start and when it migrates."""
    await migrated_by_a_newer_one(migrated_database_url, contracts="7.0.0")
    for call in (check, upgrade, status, downgrade):
        with pytest.raises(SchemaTooNew, match=r"9001, made by Phoenix 7\.2\.0.*phoenix-engine 7\.0\.0 or"):
            await call(migrated_database_url)


async def test_a_newer_schema_that_only_adds_is_worked_with(migrated_database_url: str) -> None:
    """After an expanding migration processes of the version before go on, and can start again."""
    await migrated_by_a_newer_one(migrated_database_url)
    await check(migrated_database_url)
    assert (await upgrade(migrated_database_url)).after == NEW


async def test_an_unknown_schema_without_a_record_is_refused(migrated_database_url: str) -> None:
    """Who does not know what a migration did does not guess."""
    await execute(migrated_database_url, f"UPDATE alembic_version SET version_num = '{NEW}'")
    with pytest.raises(SchemaTooNew, match="Install the Phoenix that migrated it"):
        await check(migrated_database_url)


async def test_an_older_schema_is_refused_naming_the_command(database_url: str) -> None:
    """A process that may not migrate says who may."""
    with pytest.raises(SchemaTooOld, match=rf"at revision none; .* needs {LAST}\. Run `phoenix migrate`"):
        await check(database_url)
    await upgrade(database_url, to="0001")
    with pytest.raises(SchemaTooOld, match="at revision 0001"):
        await check(database_url)
    assert (await status(database_url)).waiting[-1] == LAST


async def test_an_unknown_revision_is_no_target(database_url: str) -> None:
    """A typo changes nothing."""
    with pytest.raises(NotFound, match="0001"):
        await upgrade(database_url, to="0000")
    with pytest.raises(NotFound, match="0001"):
        await downgrade(database_url, "0000")


async def test_a_contraction_waits_for_old_processes(database_url: str, contracting: str) -> None:
    """It is left out at a start and refused as a command while they are connected; then it is applied."""
    async with process(database_url, phoenix="4.9.0"), process(database_url, phoenix="5.0.0"):
        done = await upgrade(database_url)
        assert (done.after, done.waiting) == (contracting, [LAST])
        assert "1 session of Phoenix 4.9.0 is connected" in done.reason
        with pytest.raises(SchemaInUse, match=r"removes what Phoenix before 5\.0\.0 needs"):
            await upgrade(database_url, strict=True)
        # Not needed to work: the new version runs beside the old one.
        await check(database_url)
    async with process(database_url, phoenix="5.0.0"):
        assert (await upgrade(database_url, strict=True)).after == LAST


async def test_a_migration_that_is_needed_is_not_left_out_behind_a_contraction(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a new version needs cannot wait: it does not start, and the database keeps its form."""
    known = schema.known()
    monkeypatch.setattr(schema, "known", lambda: (Revision("0001", contracts="5.0.0"), *known[1:]))
    async with process(database_url, phoenix="4.9.0"):
        with pytest.raises(SchemaInUse):
            await upgrade(database_url)


async def test_nothing_is_taken_from_connected_processes(migrated_database_url: str) -> None:
    """A downgrade waits until nobody works with what it removes."""
    before = await dump(migrated_database_url)
    async with process(migrated_database_url, phoenix="0.1.0"):
        with pytest.raises(SchemaInUse, match=r"1 session of Phoenix 0\.1\.0 is connected"):
            await downgrade(migrated_database_url, "0001")
    assert await dump(migrated_database_url) == before
    done = await downgrade(migrated_database_url, "0001")
    assert (done.before, done.after) == (LAST, "0001")


async def test_a_locked_table_is_given_up_soon(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting migration would make everybody after it wait: it fails with a reason, nothing changed."""
    monkeypatch.setattr(migrate, "LOCK_SECONDS", 1)
    await downgrade(migrated_database_url, "0001")
    before = await dump(migrated_database_url)
    async with await psycopg.AsyncConnection.connect(conninfo(migrated_database_url)) as other:
        await other.execute("SELECT FROM projects")
        with pytest.raises(SchemaInUse, match="locked by another transaction for 1 s"):
            await upgrade(migrated_database_url)
    assert await dump(migrated_database_url) == before


async def test_a_newer_library_brings_its_tables_along(migrated_database_url: str, later_queue: Path) -> None:
    """Files that are new are applied in order, once."""
    assert (await status(migrated_database_url)).waiting == [
        "04.00.00_01_pre_add.sql",
        "04.00.00_50_post_drop.sql",
    ]
    done = await upgrade(migrated_database_url)
    assert done.queue == ["04.00.00_01_pre_add.sql", "04.00.00_50_post_drop.sql"]
    columns = {row[2] for row in await dump(migrated_database_url) if row[1] == "procrastinate_jobs"}
    assert "added" in columns
    assert "attempts" not in columns
    assert (await upgrade(migrated_database_url)).queue == []


async def test_what_the_library_removes_waits_for_processes_with_the_older_one(
    migrated_database_url: str, later_queue: Path
) -> None:
    """A `post` file is applied once nobody runs the older library; `pre` files at once."""
    async with process(migrated_database_url, phoenix="0.1.0", queue="3.4.0"):
        done = await upgrade(migrated_database_url)
        assert done.queue == ["04.00.00_01_pre_add.sql"]
        assert done.waiting == ["04.00.00_50_post_drop.sql"]
        await check(migrated_database_url)
    assert (await upgrade(migrated_database_url)).queue == ["04.00.00_50_post_drop.sql"]


async def test_an_older_library_is_refused_after_a_removal(
    migrated_database_url: str, later_queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works with what `pre` files add, and not with what `post` files take."""
    async with process(migrated_database_url, phoenix="0.1.0", queue="3.4.0"):
        await upgrade(migrated_database_url)
    with monkeypatch.context() as older:
        for path in later_queue.glob("04.*"):
            path.rename(path.with_suffix(".later"))
        await check(migrated_database_url)
        for path in later_queue.glob("04.*"):
            path.rename(path.with_suffix(".sql"))
        older.setattr(queue_schema, "version", lambda: "4.0.0")
        await upgrade(migrated_database_url)
    for path in later_queue.glob("04.*"):
        path.unlink()
    for call in (check, upgrade):
        with pytest.raises(SchemaTooNew, match=r"Install procrastinate 4\.0\.0 or newer"):
            await call(migrated_database_url)


def test_what_a_schema_needs_is_decided_by_all_that_is_unknown() -> None:
    """The newest contraction counts, also when later migrations only added."""
    recorded = (
        Revision(LAST, "", "0.1.0"),
        Revision("9000", "6.0.0", "6.1.0"),
        Revision(NEW, "", "7.2.0"),
    )
    schema.check(Found(NEW, recorded), version="6.0.0")
    with pytest.raises(SchemaTooNew, match=r"6\.0\.0 or newer"):
        schema.check(Found(NEW, recorded), version="5.9.0")
