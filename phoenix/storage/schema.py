"""What the schema in a database is, and whether this Phoenix can work with it.

`alembic_version` names the revision. `phoenix_schema` keeps what a release that does not know that revision
needs: which version made it, and from which version on Phoenix can work after it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory
from packaging.version import Version
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix import __version__
from phoenix.errors import SchemaTooNew, SchemaTooOld

MIGRATIONS = Path(__file__).parent / "migrations"

CREATE = """
CREATE TABLE IF NOT EXISTS phoenix_schema (
    part text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    contracts text NOT NULL DEFAULT '',
    at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_phoenix_schema PRIMARY KEY (part, name)
)
"""
"""Made beside the migrations, as `alembic_version` is: every release reads it, so its shape stays.

`part` is `phoenix` or `queue`, `name` a revision or a file of the queue's library, `version` what made it
(of Phoenix or of that library), `contracts` the first Phoenix that can work after it; empty for any.
"""


@dataclass(frozen=True)
class Revision:
    """One migration. `contracts` names the first version that does not need what it removes."""

    name: str
    contracts: str = ""
    version: str = ""
    """What made it, where a database says so."""


@dataclass(frozen=True)
class Found:
    """The schema in a database. `revision` is None where there is none yet."""

    revision: str | None
    recorded: tuple[Revision, ...] = ()


@functools.cache
def known() -> tuple[Revision, ...]:
    """Return the migrations that this Phoenix brings, oldest first."""
    scripts = ScriptDirectory.from_config(config())
    walked = [s for s in scripts.walk_revisions() if s.revision]
    return tuple(Revision(s.revision, str(getattr(s.module, "contracts", ""))) for s in reversed(walked))


def config() -> Config:
    """Return Alembic's configuration, without a connection."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return made


def head() -> str:
    """Return the last revision that this Phoenix brings."""
    return known()[-1].name


async def read(connection: AsyncConnection) -> Found:
    """Return what a database's schema is."""
    revision = await revision_of(connection)
    if not await exists(connection, "phoenix_schema"):
        return Found(revision)
    query = text("SELECT name, contracts, version FROM phoenix_schema WHERE part = 'phoenix' ORDER BY name")
    rows = (await connection.execute(query)).all()
    return Found(revision, tuple(Revision(*row) for row in rows))


async def revision_of(connection: AsyncConnection) -> str | None:
    """Return a database's revision; None where there is no schema."""
    if not await exists(connection, "alembic_version"):
        return None
    found = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one_or_none()
    return None if found is None else str(found)


async def exists(connection: AsyncConnection, table: str) -> bool:
    """Tell whether there is a table of that name."""
    query = text("SELECT to_regclass(:table) IS NOT NULL")
    return bool((await connection.execute(query, {"table": table})).scalar_one())


def missing(revision: str | None, *, to: str = "head") -> list[Revision]:
    """Return the known migrations that come after a known revision, up to and with `to`."""
    names = [r.name for r in known()]
    begin = 0 if revision is None else names.index(revision) + 1
    end = len(names) if to == "head" else names.index(to) + 1
    return list(known()[begin:end])


def check(found: Found, *, version: str = __version__) -> None:
    """Check that Phoenix of this version can work with a schema.

    Raises:
        SchemaTooNew: it was migrated beyond what this version can work with.
        SchemaTooOld: migrations are missing that this version needs.
    """
    names = {r.name for r in known()}
    if found.revision is None or found.revision in names:
        # What a contract removes hurts nobody who no longer uses it: only the other migrations are needed.
        needed = [r.name for r in missing(found.revision) if not r.contracts]
        if needed:
            raise SchemaTooOld(
                f"The database's schema is at revision {found.revision or 'none'}; "
                f"Phoenix {version} needs {needed[-1]}.",
                hint="Run `phoenix migrate`.",
            )
        return
    foreign = [r for r in found.recorded if r.name not in names]
    by = next((r.version for r in foreign if r.name == found.revision), "")
    needs = newest([r.contracts for r in foreign])
    if by and (not needs or Version(needs) <= Version(version)):
        return
    wanted = needs or by
    raise SchemaTooNew(
        f"The database's schema is at revision {found.revision}"
        + (f", made by Phoenix {by}" if by else "")
        + f"; Phoenix {version} cannot work with it.",
        hint=f"Install phoenix-engine {wanted} or newer."
        if wanted
        else "Install the Phoenix that migrated it, or a newer one.",
    )


def newest(versions: Iterable[str]) -> str:
    """Return the highest of some versions, leaving out empty ones; empty when there is none."""
    given = [v for v in versions if v]
    return max(given, key=Version) if given else ""


async def record(connection: AsyncConnection, revision: str | None) -> None:
    """Let `phoenix_schema` hold the revisions up to one, as far as this Phoenix knows them."""
    await connection.execute(text(CREATE))
    names = [r.name for r in known()]
    applied = () if revision is None else known()[: names.index(revision) + 1]
    await connection.execute(
        text("DELETE FROM phoenix_schema WHERE part = 'phoenix' AND NOT name = ANY(:names)"),
        {"names": [r.name for r in applied]},
    )
    rows: Sequence[dict[str, str]] = [
        {"name": r.name, "version": __version__, "contracts": r.contracts} for r in applied
    ]
    if rows:
        await connection.execute(
            text(
                "INSERT INTO phoenix_schema (part, name, version, contracts)"
                " VALUES ('phoenix', :name, :version, :contracts) ON CONFLICT DO NOTHING"
            ),
            rows,
        )
