"""A full disk, or a full database, pauses work with a reason; it goes on when there is space again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from phoenix.engine.pauses import MB, Space
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.migrate import upgrade
from tests.integration.engine.engine_toy import System, open_system

NOTHING = 1
BIG_LEFT = 100_000
"""Less than the step that writes a megabyte needs."""


@pytest.fixture
def disk() -> Iterator[Path]:
    """Return a folder on a file system of 64 MB of its own, which the server's user reaches as well."""
    folder = Path(tempfile.mkdtemp(prefix="phoenix-disk-"))
    folder.chmod(0o711)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        folder.rmdir()
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def fill(disk: Path, *, leave: int) -> Path:
    """Fill a disk but for so many bytes and return the file that does."""
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - leave)
    return filler


async def paused(system: System) -> str:
    """Return why the worker pauses, once it does."""
    # A checkpoint's write is tried again for half a minute before it counts as failed.
    async with asyncio.timeout(60):
        while not system.engine.paused:
            await asyncio.sleep(0.02)
    return system.engine.paused


async def test_a_disk_that_fills_up_pauses_work_at_the_end_of_a_step(
    migrated_database_url: str, disk: Path
) -> None:
    """No run is taken, the running step ends and is not repeated, and the same comes out in the end."""
    space = Space(disk, least=8 * MB, enough=16 * MB)
    async with open_system(migrated_database_url, disk, space=space) as system, system.engine.worker():
        project = await system.launch("big")
        await system.until_marked("slow")
        filler = fill(disk, leave=7 * MB)
        said = f"Less than 8 MB are free at {disk}; work goes on by itself with 16 MB."
        assert await paused(system) == said
        async with asyncio.timeout(5):
            while [(w.state, w.reason) for w in await system.engine.workers()] != [("paused", said)]:
                await asyncio.sleep(0.1)
        waits = await system.launch("plain")
        system.go()
        await system.until(project.id, "pending")
        handed_back = (await system.events(project.id))[-1]
        assert (handed_back.kind, handed_back.data["reason"]) == ("run_handed_back", said)
        os.truncate(filler, filler.stat().st_size - 4 * MB)
        await asyncio.sleep(2.5)
        assert system.engine.paused, "it goes on only with enough space"
        assert (await system.run_of(waits.id)).status == "pending"
        assert (await system.run_of(project.id)).attempt == 2
        filler.unlink()
        done = await system.until(project.id, "success", "failed")
        await system.until(waits.id, "success")
    assert done.status == "success"
    assert done.output == await undisturbed(migrated_database_url, disk)
    assert system.marks().count("slow") == 2, "once with the pause and once without"


async def undisturbed(url: str, folder: Path) -> object:
    """Return what the same project gives on a disk with space."""
    async with open_system(url, folder) as system, system.engine.worker():
        project = await system.launch("big")
        return (await system.until(project.id, "success")).output


async def test_a_step_that_finds_no_space_is_tried_again(migrated_database_url: str, disk: Path) -> None:
    """It does not fail its run: the run goes back, and on once a write can succeed."""
    space = Space(disk, least=NOTHING, enough=NOTHING)
    async with open_system(migrated_database_url, disk, space=space) as system, system.engine.worker():
        project = await system.launch("big")
        await system.until_marked("slow")
        filler = fill(disk, leave=BIG_LEFT)
        system.go()
        assert "No space left on device" in await paused(system)
        await system.until(project.id, "pending")
        filler.unlink()
        done = await system.until(project.id, "success", "failed")
        reasons = [e.data.get("reason", "") for e in await system.events(project.id)]
    assert done.status == "success"
    assert any("No space left on device" in reason for reason in reasons)
    assert not system.engine.paused


async def test_a_full_database_pauses_work(tmp_path: Path, disk: Path) -> None:
    """The server's own answer (53100) to a checkpoint's write hands the run back, not fails it."""
    (disk / "space").mkdir()
    async with EmbeddedPostgres(tmp_path / "server", options={"fsync": "off"}) as server:
        owner = (tmp_path / "server" / "postgres").stat()
        os.chown(disk / "space", owner.st_uid, owner.st_gid)
        async with await psycopg.AsyncConnection.connect(server, autocommit=True) as connection:
            await connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}/space'")
            await connection.execute("CREATE DATABASE small TEMPLATE template0 TABLESPACE small")
        url = server.replace("/postgres?", "/small?")
        await upgrade(url)
        async with open_system(url, tmp_path) as system, system.engine.worker():
            project = await system.launch("big")
            await system.until_marked("slow")
            filler = fill(disk, leave=BIG_LEFT)
            system.go()
            assert "No space is left: " in await paused(system)
            assert (await system.run_of(project.id)).status in ("pending", "running")
            filler.unlink()
            done = await system.until(project.id, "success", "failed", seconds=60)
        assert done.status == "success"
