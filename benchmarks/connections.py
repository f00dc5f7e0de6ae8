"""How many connections to the database one process holds: a worker, and a replica of the HTTP service.

Each is started as its command starts it, with default settings, on an empty database. What PostgreSQL
counts for it, once it has rested for some seconds, is printed beside the most that its pools allow.
Exits 0 only where neither holds more than that at rest.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.connections`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.contenders import free_port
from phoenix.settings import Settings
from phoenix.storage.migrate import upgrade

START_SECONDS = 120
REST_SECONDS = 10
QUEUE, SAVER, LISTEN, HEART = 6, 6, 1, 1
"""Of the queue's pool (`open_queue`), the checkpointer, the event log and the heartbeat."""
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def most(concurrency: int) -> int:
    """Return how many connections the pools of a process allow: twice the kept ones of rows, and the rest."""
    return 2 * max(10, concurrency * 2) + QUEUE + SAVER + LISTEN + HEART


async def held(url: str, command: list[str], folder: Path) -> int:
    """Return how many connections a process holds at rest."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PHOENIX_HOME": str(folder / "home"),
        "PHOENIX_PORT": str(free_port()),
        "PHOENIX_WORK": "false",
        "DATABASE_URL": url,
    }
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, env=environment, stdout=log, stderr=log
        )
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                async with asyncio.timeout(START_SECONDS):
                    while True:
                        if await counted(connection):
                            break
                        await asyncio.sleep(0.2)
                await asyncio.sleep(REST_SECONDS)
                if process.returncode is not None:
                    raise SystemExit((folder / "log").read_text())
                return await counted(connection)
        finally:
            process.terminate()
            await process.wait()


async def counted(connection: psycopg.AsyncConnection[tuple[int]]) -> int:
    """Return how many connections there are beside this one."""
    row = await (await connection.execute(COUNT)).fetchone()
    return row[0] if row else 0


async def main() -> int:
    """Measure both."""
    limit = most(Settings.model_fields["concurrency"].default)
    counts = []
    async with postgres() as server:
        for name, command in (
            ("worker", ["-m", "phoenix", "worker"]),
            ("replica", ["-m", "phoenix.main"]),
        ):
            url = await fresh(server, f"connections_{name}")
            try:
                await upgrade(url)
                with TemporaryDirectory(prefix="phoenix-connections-") as folder:
                    counts.append(await held(url, command, Path(folder)))
            finally:
                await drop(server, url)
            print(f"{name}: {counts[-1]} connections at rest; its pools allow {limit}", flush=True)
    return 0 if max(counts) <= limit else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
