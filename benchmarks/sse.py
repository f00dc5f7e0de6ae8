"""What 500 readers of live events cost, on 50 projects that work: lag, gaps, and memory a reader.

Phoenix serves as `phoenix up` does, in a process of its own; another one appends events to the projects as
workers do (`phoenix.storage.event_batch`), and this one reads ten streams a project, some of which leave and
come again with `Last-Event-ID`. Every reader must get every event of its project, in order and once; the lag
is from an event's own time in the database to its arrival here, and so needs clocks that agree: one machine.
Memory is what the server's resident size grew by, from readers of nothing to all of them. Exits 0 only where
nothing is lost, p95 of the lag is under 250 ms, and a reader costs under 100 kB.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.sse [--projects 50] [--readers 500] [--seconds 30] [--rate 2]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil

from benchmarks.api import accepted, launches, phoenix
from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.contenders import free_port
from benchmarks.server.lean import send_all
from phoenix.storage.database import conninfo
from phoenix.storage.event_batch import EventBatches

MOST_LAG_MS = 250.0
MOST_KB = 100.0
WARM_UP = 20
RECONNECTS = 0.1
"""Share of readers that leave in the middle and come again."""
PATIENCE_SECONDS = 60.0


@dataclass
class Reader:
    """One stream and what came over it."""

    project_id: str
    last: int = 0
    lags: list[float] = field(default_factory=list)
    wrong: int = 0
    """Events that came out of their order."""

    async def read(self, url: str, key: str, until: int, *, leave_at: int = 0) -> None:
        """Read until an event's number has come; leave once at another one, and come again."""
        parts = urlsplit(url)
        while self.last < until:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                path = f"{parts.path}/{self.project_id}/events/stream"
                lines = (f"GET {path} HTTP/1.1", f"Host: {parts.netloc}", f"X-API-Key: {key}")
                writer.write("\r\n".join((*lines, f"Last-Event-ID: {self.last}", "", "")).encode())
                status = await reader.readline()
                if b" 200 " not in status:
                    raise SystemExit(f"a stream was refused: {status.decode()}")
                async for line in reader:
                    if not line.startswith(b"data: "):
                        continue
                    self._take(json.loads(line[6:]))
                    if self.last >= until:
                        return
                    if leave_at and self.last >= leave_at:
                        leave_at = 0
                        break
            finally:
                writer.close()

    def _take(self, event: dict[str, Any]) -> None:
        self.wrong += event["seq"] != self.last + 1
        self.last = event["seq"]
        self.lags.append(time.time() - datetime.fromisoformat(event["at"]).timestamp())


async def append(url: str, ids: Sequence[str], *, seconds: float, rate: float) -> None:
    """Append events to each project, as many a second as the rate says, at random moments."""
    async with EventBatches(conninfo(url)).open() as events:

        async def project(project_id: UUID) -> None:
            for n in range(int(seconds * rate)):
                await asyncio.sleep(random.uniform(0, 2 / rate))
                done = events.append(
                    project_id, "step_started", {"key": "", "step": f"step {n}"}, run_id=None
                )
                if done is not None:
                    await done

        await asyncio.gather(*(project(UUID(project_id)) for project_id in ids))


async def measure(arguments: argparse.Namespace, url: str, key: str, database: str, pid: int) -> bool:
    """Read while another process appends; print what came, and tell whether the bars hold."""
    _, made = await send_all(url, launches(url, arguments.projects, key), connections=10)
    accepted(made, "phoenix")
    ids = [answer.body["id"] for answer in made]
    server = psutil.Process(pid)
    # Whatever the server loads and caches with its first readers is no reader's own.
    await asyncio.gather(*(Reader(ids[0]).read(url, key, 1) for _ in range(WARM_UP)))
    before = server.memory_info().rss
    total = 1 + int(arguments.seconds * arguments.rate)
    readers = [Reader(ids[n % len(ids)]) for n in range(arguments.readers)]
    leaving = int(1 / RECONNECTS)
    reading = [
        asyncio.create_task(r.read(url, key, total, leave_at=0 if n % leaving else total // 2))
        for n, r in enumerate(readers)
    ]
    while not all(reader.last for reader in readers):  # noqa: ASYNC110 each has a stream of its own
        await asyncio.sleep(0.1)
    # What was there when they came is no news.
    for reader in readers:
        reader.lags.clear()
    command = ("-m", "benchmarks.sse", "--append", database, "--ids", ",".join(ids))
    rate = ("--seconds", str(arguments.seconds), "--rate", str(arguments.rate))
    appending = await asyncio.create_subprocess_exec(sys.executable, *command, *rate)
    largest = before
    while appending.returncode is None:
        largest = max(largest, server.memory_info().rss)
        try:
            async with asyncio.timeout(0.5):
                await appending.wait()
        except TimeoutError:
            continue
    if appending.returncode:
        raise SystemExit("the process that appends failed")
    await asyncio.wait(reading, timeout=PATIENCE_SECONDS)
    return report(readers, total, (largest - before) / 1024 / len(readers))


def report(readers: Sequence[Reader], total: int, kilobytes: float) -> bool:
    """Print what came, each bar last; tell whether all hold."""
    lags = sorted(lag * 1000 for reader in readers for lag in reader.lags)
    lost = sum(total - reader.last for reader in readers)
    wrong = sum(reader.wrong for reader in readers)
    p95 = lags[int(len(lags) * 0.95)]
    print(f"{len(readers)} readers, {len(lags)} events delivered, lag p50 {lags[len(lags) // 2]:.1f} ms")
    held = True
    for title, value, bar in (
        ("events that did not come", lost, 0.0),
        ("events out of order or twice", wrong, 0.0),
        ("lag p95, ms", p95, MOST_LAG_MS),
        ("memory a reader, kB", kilobytes, MOST_KB),
    ):
        held = held and value <= bar
        print(f"{title}: {value:.1f} (bar <= {bar:g}) {'held' if value <= bar else 'MISSED'}")
    return held


async def main() -> int:
    """Measure, or append."""
    parser = argparse.ArgumentParser(description="Readers of live events.")
    parser.add_argument("--projects", type=int, default=50)
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=2.0, help="events a second of each project")
    parser.add_argument("--append", help=argparse.SUPPRESS)
    parser.add_argument("--ids", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.append:
        await append(
            arguments.append, arguments.ids.split(","), seconds=arguments.seconds, rate=arguments.rate
        )
        return 0
    port = free_port()
    async with postgres() as server:
        database = await fresh(server, "sse")
        async with phoenix(database, port) as (key, pid):
            url = f"http://127.0.0.1:{port}/api/v1/projects"
            held = await measure(arguments, url, key, database, pid)
        await drop(server, database)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
