"""The embedded PostgreSQL is shared, survives kills, and leaves the machine as it was."""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import signal
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from phoenix.errors import DatabaseUnavailable, DiskFull
from phoenix.storage import embedded
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.unprivileged import account_for

FAST = {"fsync": "off"}
HOLDER = """
import asyncio, sys
from pathlib import Path
from phoenix.storage.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"}) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


def postmaster(home: Path) -> int | None:
    """Return the pid of the server on `home`, found without the code under test."""
    for process in psutil.process_iter(["name", "cmdline", "status"]):
        found = process.info["cmdline"] or []
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and process.info["name"] == "postgres" and str(home / "postgres") in found:
            return process.pid
    return None


async def begin(home: Path) -> Process:
    """Start a holder in another process."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        HOLDER,
        str(home),
        stdin=PIPE,
        stdout=PIPE,
        cwd=Path(embedded.__file__).parents[2],
    )


async def url_of(holder: Process) -> str:
    assert holder.stdout is not None
    return (await holder.stdout.readline()).decode().strip()


async def leave(holder: Process) -> None:
    """Let a holder go in good order."""
    await holder.communicate(b"\n")
    assert holder.returncode == 0


async def kill(holder: Process) -> None:
    holder.kill()
    await holder.communicate()


async def query(url: str, text: str) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(text)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose database was made and stopped."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("prepared") / "home", options=FAST)
    asyncio.run(server.start())
    asyncio.run(server.stop())
    return server.home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder that is not there yet."""
    return tmp_path / "home"


@pytest.fixture
def made(prepared: Path, tmp_path: Path) -> Path:
    """Return a copy of the prepared home."""
    subprocess.run(["cp", "-a", prepared, tmp_path / "home"], check=True)
    return tmp_path / "home"


def test_it_starts_under_uvloop(tmp_path: Path) -> None:
    """It is the loop of `phoenix up`; there the server holds the other end of its starter's output."""
    pytest.importorskip("uvloop")
    done = subprocess.run(
        [sys.executable, "-c", HOLDER.replace("asyncio.run(", "__import__('uvloop').run("), str(tmp_path)],
        input="\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(embedded.__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("postgresql://")


async def test_processes_share_one_server_and_the_last_to_leave_stops_it(home: Path) -> None:
    """Three processes that start at the same moment get one server, which ends with the last of them."""
    holders = [await begin(home) for _ in range(3)]
    urls = {await url_of(holder) for holder in holders}
    assert len(urls) == 1
    assert await query(urls.pop(), "SELECT 1") == [(1,)]
    pid = postmaster(home)
    await leave(holders[0])
    await leave(holders[1])
    assert postmaster(home) == pid
    await leave(holders[2])
    assert postmaster(home) is None


async def test_a_killed_holder_does_not_keep_the_server_alive(made: Path) -> None:
    """After kill -9 of one holder the other one is the last, and stops the server."""
    async with EmbeddedPostgres(made, options=FAST):
        holder = await begin(made)
        await url_of(holder)
        await kill(holder)
        assert postmaster(made) is not None
    assert postmaster(made) is None


async def test_a_server_left_by_a_killed_process_is_taken_over(made: Path) -> None:
    """After kill -9 of the only holder, the next one uses the same server and stops it."""
    holder = await begin(made)
    await url_of(holder)
    await kill(holder)
    orphan = postmaster(made)
    assert orphan is not None
    async with EmbeddedPostgres(made):
        assert postmaster(made) == orphan
    assert postmaster(made) is None


async def test_data_survives_the_servers_kill(made: Path) -> None:
    """After kill -9 of the server a second start of the same share recovers what was committed."""
    server = EmbeddedPostgres(made, options=FAST)
    url = await server.start()
    await query(url, "CREATE TABLE kept AS SELECT 42 AS number")
    pid = postmaster(made)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while postmaster(made) is not None:
        await asyncio.sleep(0.01)
    assert await server.start() == url
    assert postmaster(made) != pid
    assert await query(url, "SELECT number FROM kept") == [(42,)]
    await server.stop()
    assert postmaster(made) is None


async def test_a_reused_pid_is_not_taken_for_the_server(made: Path) -> None:
    """A stale pid file that names another program of the server's own account does not block the start."""
    async with EmbeddedPostgres(made, options=FAST) as url:
        await query(url, "CREATE TABLE kept AS SELECT 42 AS number")
        stale = (made / "postgres" / "postmaster.pid").read_text().splitlines()
    account = account_for(made / "postgres", embedded._programs())
    other = await asyncio.create_subprocess_exec(*account.prefix, "sleep", "60")
    (made / "postgres" / "postmaster.pid").write_text("\n".join([str(other.pid), *stale[1:]]) + "\n")
    async with EmbeddedPostgres(made, options=FAST) as url:
        assert await query(url, "SELECT number FROM kept") == [(42,)]
    assert other.returncode is None
    other.kill()
    await other.wait()


async def test_folders_and_accounts_stay_as_they_were(tmp_path: Path) -> None:
    """No folder above the data is opened to others, and no system user is made."""
    parents = [tmp_path / "closed", tmp_path / "closed" / "inner", tmp_path / "closed" / "inner" / "home"]
    for folder in parents:
        folder.mkdir(mode=0o700)
    watched = [*tmp_path.parents, tmp_path, *parents, *embedded._programs().parents]
    modes = [(f, f.stat().st_mode, f.stat().st_uid) for f in watched]
    users = pwd.getpwall()
    async with EmbeddedPostgres(parents[-1], options=FAST):
        pass
    assert [(f, f.stat().st_mode, f.stat().st_uid) for f in watched] == modes
    assert pwd.getpwall() == users
    for made in parents[-1].iterdir():
        assert made.stat().st_mode & 0o077 == 0, made


async def test_a_long_path_works(tmp_path: Path) -> None:
    """A home of over 150 characters, odd ones too, has its socket elsewhere and leaves none."""
    home = tmp_path / ("long" * 25) / "a ,'\"$é\\x" / ("path" * 15)
    async with EmbeddedPostgres(home, options=FAST) as url:
        assert await query(url, "SELECT 1") == [(1,)]
        sockets = Path(parse_qs(urlsplit(url).query)["host"][0])
        assert sockets.parent == Path(tempfile.gettempdir())
    assert not sockets.exists()


async def test_a_half_made_database_is_made_again(home: Path) -> None:
    """What a process left that was killed while it made the database is not used."""
    (home / "postgres.new" / "base").mkdir(parents=True)
    (home / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(home, options=FAST) as url:
        assert await query(url, "SELECT 1") == [(1,)]
    assert not (home / "postgres.new").exists()


async def test_the_server_does_not_see_the_environment(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of the process that starts the server are not in the server's environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PGPORT", "1")
    async with EmbeddedPostgres(made, options=FAST) as url:
        assert b"sk-secret" not in Path(f"/proc/{postmaster(made)}/environ").read_bytes()
        assert await query(url, "SELECT 1") == [(1,)]


async def test_the_server_listens_on_no_network(made: Path) -> None:
    """Only the socket in a closed folder leads to the server."""
    async with EmbeddedPostgres(made, options=FAST) as url:
        assert await query(url, "SHOW listen_addresses") == [("",)]
        assert await query(url, "SHOW synchronous_commit") == [("on",)]


async def test_a_server_that_does_not_start_says_why(made: Path) -> None:
    """The end of the server's log is in the error."""
    with pytest.raises(DatabaseUnavailable, match='invalid value for parameter "shared_buffers": "much"'):
        await EmbeddedPostgres(made, options={"shared_buffers": "much"}).start()


async def test_a_database_of_another_version_is_left_alone(home: Path) -> None:
    """Data of another major version is refused, not touched."""
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 16"):
        await EmbeddedPostgres(home).start()
    assert [p.name for p in (home / "postgres").iterdir()] == ["PG_VERSION"]


async def test_files_in_the_way_are_left_alone(home: Path) -> None:
    """A folder that holds something else is refused, not overwritten."""
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatabaseUnavailable, match="holds no database"):
        await EmbeddedPostgres(home).start()
    assert (home / "postgres" / "thesis.txt").read_text() == "years of work"


async def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """A folder that others prepared in the shared temporary folder is not used."""
    home = tmp_path / "home"
    (home / "postgres.socket").mkdir(parents=True)
    (home / "postgres.socket").chmod(0o777)
    with pytest.raises(DatabaseUnavailable, match="somebody else"):
        await EmbeddedPostgres(home, options=FAST).start()


async def test_an_unusable_home_is_reported(tmp_path: Path) -> None:
    """A home below a file is an error with a hint, not a traceback of the system's."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match="PHOENIX_HOME"):
        await EmbeddedPostgres(tmp_path / "file" / "home").start()


def test_no_space_left_is_a_disk_full_error(tmp_path: Path) -> None:
    """Both the programs' words and the system's error number for a full disk are recognised."""
    said = 'initdb: error: could not write to file "base/1": No space left on device'
    assert isinstance(embedded._failure("it failed", said, tmp_path), DiskFull)
    assert isinstance(embedded._translated(OSError(errno.ENOSPC, "full"), tmp_path), DiskFull)
