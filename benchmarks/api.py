"""How many projects a second can be launched over HTTP, beside a bare route that inserts one row.

Phoenix serves as `phoenix up` does (authentication, tenancy, audit, rate limits; no worker in the process),
the bare route in a process of its own on the same database. Fifty kept connections post in turns to the one
and the other; the median ratio of the rounds comes last. Before that 1,000 projects are launched, each
posted twice at once under one idempotency key: each is there once, with its run, its job, its event and its
audit row, and both answers are the same. Exits 0 only where that holds and the ratio reaches its bar.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started with its durable defaults. Run as
`python -m benchmarks.api [--rounds 7] [--launches 500]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg

from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.contenders import free_port
from benchmarks.server.lean import Answer, post, send_all

BAR = 0.3
CONNECTIONS = 50
WARM_UP = 200
START_SECONDS = 60.0
ONCE = 1000
KEY = re.compile(r"phx_key_\S+")

COUNTS = """
SELECT
    (SELECT count(*) FROM projects),
    (SELECT count(*) FROM runs),
    (SELECT count(*) FROM procrastinate_jobs),
    (SELECT count(*) FROM events WHERE seq = 1),
    (SELECT count(*) FROM audit WHERE action = 'project.launch')
"""


@asynccontextmanager
async def process(*command: str, until: str, **environment: str) -> AsyncIterator[tuple[str, int]]:
    """Run a server until the end of the body; yield what it said up to a word on standard error, and its pid.

    Raises:
        SystemExit: it does not say so.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PHOENIX_", "OPENAI_"))}
    started = await asyncio.create_subprocess_exec(
        sys.executable, *command, env={**kept, **environment}, stderr=asyncio.subprocess.PIPE
    )
    if started.stderr is None:
        raise SystemExit("a server has no standard error")
    said = ""
    try:
        async with asyncio.timeout(START_SECONDS):
            while until not in said:
                line = await started.stderr.readline()
                if not line:
                    raise SystemExit(f"a server ended: {said}")
                said += line.decode(errors="replace")
        reading = asyncio.create_task(started.stderr.read())
        yield said, started.pid
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()
    await reading


@asynccontextmanager
async def phoenix(database: str, port: int) -> AsyncIterator[tuple[str, int]]:
    """Run `python -m phoenix.main` without a worker; yield the first administrator's key, and the pid."""
    with TemporaryDirectory() as home:
        ours = {
            "PHOENIX_HOME": str(Path(home)),
            "PHOENIX_PORT": str(port),
            "PHOENIX_WORK": "0",
            "PHOENIX_RATE_LIMIT": "1000000/second",
            "PHOENIX_LOG_LEVEL": "warning",
            "PHOENIX_MODEL": "openai:unused",
            "OPENAI_API_KEY": "unused",
            "DATABASE_URL": database,
        }
        async with process("-m", "phoenix.main", until="serving http", **ours) as (said, pid):
            found = KEY.search(said)
            if found is None:
                raise SystemExit(f"no key was shown: {said}")
            yield found.group(), pid


def launches(url: str, count: int, key: str) -> list[bytes]:
    """Return so many launches, as different as users'."""
    return [
        post(url, {"requirement": f"Count to {n} in {uuid4().hex}."}, X_API_Key=key) for n in range(count)
    ]


def accepted(answers: Sequence[Answer], who: str) -> None:
    """Check that all were accepted.

    Raises:
        SystemExit: one was not.
    """
    for answer in answers:
        if answer.status != 202:
            raise SystemExit(f"{who} answered {answer.status}: {answer.body}")


async def launched_once(url: str, key: str, database: str) -> bool:
    """Launch projects, each posted twice at once, and tell whether each is there once."""
    twice: list[bytes] = []
    for n in range(ONCE):
        body = {"requirement": f"Once, number {n}."}
        twice += [post(url, body, X_API_Key=key, Idempotency_Key=f"once-{n}")] * 2
    _, answers = await send_all(url, twice, connections=CONNECTIONS)
    accepted(answers, "phoenix")
    pairs = list(zip(answers[::2], answers[1::2], strict=True))
    same = sum(first.body == second.body for first, second in pairs)
    ids = {first.body["id"] for first, _ in pairs}
    async with await psycopg.AsyncConnection.connect(database) as connection:
        row = await (await connection.execute(COUNTS)).fetchone()
    projects, runs, jobs, events, audited = row or (0,) * 5
    print(
        f"{ONCE} projects posted twice each: {same} pairs of equal answers, {len(ids)} ids;"
        f" {projects} projects, {runs} runs, {jobs} jobs, {events} first events, {audited} audit rows"
    )
    return {same, len(ids), projects, runs, events, audited} == {ONCE} and jobs <= ONCE


def percentile(answers: Sequence[Answer], share: float) -> float:
    """Return the milliseconds within which this share of answers came."""
    seconds = sorted(answer.seconds for answer in answers)
    return seconds[min(len(seconds) - 1, int(len(seconds) * share))] * 1000


async def rates(urls: dict[str, str], key: str, *, rounds: int, count: int) -> float:
    """Print launches a second of each server and return the median ratio of Phoenix to the bare route."""
    taken: dict[str, list[float]] = {name: [] for name in urls}
    seen: dict[str, list[Answer]] = {name: [] for name in urls}
    for turn in range(rounds + 1):
        for name in list(urls)[:: 1 if turn % 2 else -1]:
            url = urls[name]
            number = count if turn else WARM_UP
            seconds, answers = await send_all(url, launches(url, number, key), connections=CONNECTIONS)
            accepted(answers, name)
            if turn:
                taken[name].append(number / seconds)
                seen[name] += answers
    for name, found in taken.items():
        print(
            f"{name}: {statistics.median(found):.0f} launches a second,"
            f" p50 {percentile(seen[name], 0.5):.1f} ms, p99 {percentile(seen[name], 0.99):.1f} ms"
        )
    return statistics.median(a / b for a, b in zip(taken["phoenix"], taken["bare route"], strict=True))


async def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description="Launches over HTTP.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--launches", type=int, default=500)
    arguments = parser.parse_args()
    ports = {"phoenix": free_port(), "bare route": free_port()}
    async with postgres() as server:
        database = await fresh(server, "api")
        bare = ("-m", "uvicorn", "benchmarks.server.insert:app", "--port", str(ports["bare route"]))
        async with (
            phoenix(database, ports["phoenix"]) as (key, _),
            process(*bare, "--no-access-log", until="Uvicorn running", BENCH_DATABASE=database),
        ):
            urls = {name: f"http://127.0.0.1:{port}/api/v1/projects" for name, port in ports.items()}
            once = await launched_once(urls["phoenix"], key, database)
            ratio = await rates(urls, key, rounds=arguments.rounds, count=arguments.launches)
        await drop(server, database)
    print(f"launched once each: {'held' if once else 'MISSED'}")
    verdict = "held" if ratio >= BAR else "MISSED"
    print(f"phoenix / bare route, launches a second: {ratio:.3f} (bar >= {BAR}) {verdict}")
    return 0 if once and ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
