"""The schema of the queue's library: made with the first migration, brought along with its package.

The library ships numbered SQL files and keeps no record of them in the database, so Phoenix does. `pre`
files may be applied before the code is upgraded, `post` files once no process runs the older code.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from procrastinate.schema import SchemaManager
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.errors import SchemaTooNew
from phoenix.storage.database import raw
from phoenix.storage.schema import CREATE, exists

BASELINE = "03.04.00_50"
"""The last file of every version from 3.5 to 3.10: what a database without a record has."""

_DROP = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT oid::regclass::text FROM pg_class
        WHERE relkind = 'r' AND relname LIKE 'procrastinate\\_%' AND pg_table_is_visible(oid)
    LOOP EXECUTE 'DROP TABLE ' || name || ' CASCADE'; END LOOP;
    FOR name IN SELECT oid::regprocedure::text FROM pg_proc
        WHERE proname LIKE 'procrastinate\\_%' AND pg_function_is_visible(oid)
    LOOP EXECUTE 'DROP FUNCTION ' || name || ' CASCADE'; END LOOP;
    FOR name IN SELECT oid::regtype::text FROM pg_type
        WHERE typtype IN ('e', 'c') AND typname LIKE 'procrastinate\\_%' AND pg_type_is_visible(oid)
    LOOP EXECUTE 'DROP TYPE ' || name || ' CASCADE'; END LOOP;
END $$
"""


@dataclass(frozen=True)
class QueueFiles:
    """Which of the library's files a database lacks, and which it has that this version does not ship."""

    lacks: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    foreign_version: str = ""
    """The version of the library that applied the foreign ones."""

    def check(self) -> None:
        """Check that the installed library can work with the database.

        Raises:
            SchemaTooNew: a `post` file of a newer one was applied.
        """
        if any(is_post(name) for name in self.foreign):
            raise SchemaTooNew(
                f"The queue's tables were migrated by procrastinate {self.foreign_version}; "
                f"{version()} is installed here.",
                hint=f"Install procrastinate {self.foreign_version} or newer.",
            )


def version() -> str:
    """Return the installed version of the library."""
    return metadata.version("procrastinate")


def is_post(name: str) -> bool:
    """Tell whether a file must wait until no older code runs."""
    return "_post_" in name


def shipped() -> list[str]:
    """Return the names of the library's files, in order."""
    return sorted(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))


async def read(connection: AsyncConnection) -> QueueFiles:
    """Return how a database's queue differs from the installed library's."""
    rows: dict[str, str] = {}
    if await exists(connection, "phoenix_schema"):
        query = text("SELECT name, version FROM phoenix_schema WHERE part = 'queue'")
        rows = {str(row.name): str(row.version) for row in await connection.execute(query)}
    files = shipped()
    has = set(rows) or {name for name in files if name[: len(BASELINE)] <= BASELINE}
    foreign = tuple(sorted(set(rows) - set(files)))
    return QueueFiles(
        lacks=tuple(name for name in files if name not in has),
        foreign=foreign,
        foreign_version=rows[foreign[-1]] if foreign else "",
    )


async def upgrade(connection: AsyncConnection, *, alone: bool) -> list[str]:
    """Make the queue's tables, or apply what is missing; return the files that were applied.

    Args:
        connection: Within the transaction of the whole migration.
        alone: No process with another version of the library is connected, so `post` files may go.

    Raises:
        SchemaTooNew: the database is of a newer library.
    """
    await connection.execute(text(CREATE))
    # On the driver itself: the scripts have many statements and their percent signs are no parameters.
    driver = await raw(connection)
    if not await exists(connection, "procrastinate_jobs"):
        await driver.execute(SchemaManager.get_schema())
        await _record(connection, shipped())
        return []
    files = await read(connection)
    files.check()
    applied = []
    for name in files.lacks:
        if is_post(name) and not alone:
            break
        await driver.execute((Path(SchemaManager.get_migrations_path()) / name).read_bytes())
        applied.append(name)
    await _record(connection, [n for n in shipped() if n not in files.lacks or n in applied])
    return applied


async def drop(connection: AsyncConnection) -> None:
    """Drop all of the queue."""
    await (await raw(connection)).execute(_DROP)
    await connection.execute(text("DELETE FROM phoenix_schema WHERE part = 'queue'"))


async def _record(connection: AsyncConnection, names: list[str]) -> None:
    await connection.execute(
        text(
            "INSERT INTO phoenix_schema (part, name, version) VALUES ('queue', :name, :version)"
            " ON CONFLICT DO NOTHING"
        ),
        [{"name": name, "version": version()} for name in names],
    )
