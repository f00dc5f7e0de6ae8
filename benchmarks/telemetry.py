"""What telemetry costs: throughput with metrics, spans in PostgreSQL and spans over OTLP, against without.

Two loads: many short runs of three steps, and runs of ten calls of a scripted model. Each measurement is a
process of its own with a fresh database of one server; pairs are measured in turn, each time the other
first. The receiver of OTLP is a process of its own too. Without telemetry, metrics are switched off
as well: what counts is replaced by nothing. Exits 0 only where telemetry costs at most 5 % of throughput, as
the median of pairs says, in both loads; the ratio comes last.

PHOENIX_TEST_DATABASE_URL names a server to use; else an embedded one is started with its durable defaults.
Run as `python -m benchmarks.telemetry [--runs 300] [--rounds 7]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import prometheus_client
from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime
from pydantic import SecretStr

from benchmarks.savers import database, server
from phoenix.bootstrap import open_system
from phoenix.engine.launch import Launch
from phoenix.flow import step
from phoenix.llm.scripted import Say, ScriptedModel
from phoenix.ports import Caller, Ports
from phoenix.settings import Settings

MODEL, CALLS = "scripted:test", 10
AT_ONCE = 50
BAR = 0.95
WARM = 20


@step
async def first(value: str) -> str:
    """Hand on."""
    return value


@step
async def second(value: str) -> str:
    """Hand on."""
    return value


@step
async def third(value: str) -> str:
    """Hand on."""
    return value


@step
async def talk(value: str, runtime: Runtime[Ports]) -> str:
    """Ask the model again and again."""
    chat = runtime.context.models.chat(Caller("talk"))
    for n in range(CALLS):
        await chat.ainvoke([HumanMessage(f"{value} {n}")])
    return value


FLOWS: dict[str, Any] = {"short": first >> second >> third, "calls": talk}


def _count_nothing() -> None:
    """Let metrics cost nothing."""

    def nothing(*_: object, **__: object) -> None:
        return None

    for kind, name in (
        (prometheus_client.Counter, "inc"),
        (prometheus_client.Gauge, "set"),
        (prometheus_client.Histogram, "observe"),
    ):
        setattr(kind, name, nothing)


async def child(load: str, url: str, runs: int, collector: str) -> None:
    """Measure once, in this process; without a collector there is no telemetry at all."""
    if not collector:
        _count_nothing()
    with TemporaryDirectory() as folder:
        settings = Settings(
            home=Path(folder),
            DATABASE_URL=SecretStr(url),
            traces="both" if collector else "off",
            otlp_endpoint=collector,
            concurrency=AT_ONCE,
            memory=False,
        )
        model = ScriptedModel(lambda _: Say("ok"), name=MODEL)
        opened = open_system(settings, execution=False, flows=FLOWS, backends={MODEL: model})
        async with opened as system, system.engine.worker():

            async def one(n: int) -> None:
                launch = Launch(requirement="x", model=MODEL, flow=load, input=f"{n}")
                run = await system.engine.complete(launch)
                if run.status != "success":
                    raise SystemExit(f"wrong result: {run.error}")

            await asyncio.gather(*(one(n) for n in range(WARM)))
            gate = asyncio.Semaphore(2 * AT_ONCE)

            async def gated(n: int) -> None:
                async with gate:
                    await one(n)

            began, busy = time.perf_counter(), time.process_time()
            await asyncio.gather(*(gated(n) for n in range(runs)))
            seconds, cpu = time.perf_counter() - began, time.process_time() - busy
        kept = await _kept(settings) if collector else 0
    print(json.dumps({"per_second": runs / seconds, "spans": kept, "cpu_ms": 1000 * cpu / runs}), flush=True)


async def _kept(settings: Settings) -> int:
    from sqlalchemy import text

    async with (
        open_system(settings.model_copy(update={"traces": "off"}), execution=False) as system,
        system.rows.connect() as connection,
    ):
        return int((await connection.execute(text("SELECT count(*) FROM spans"))).scalar_one())


def collect() -> None:
    """Be a receiver that takes everything and keeps nothing; print where."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        print(f"http://127.0.0.1:{serving.server_address[1]}", flush=True)
        serving.serve_forever()


@asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """Return where a receiver listens that is a process of its own."""
    process = await _start("--collect")
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.telemetry", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def measured(server_url: str, load: str, runs: int, collector: str) -> dict[str, float]:
    """Return what one measurement says."""
    async with database(server_url) as url:
        process = await _start("--child", load, "--url", url, "--runs", str(runs), "--collector", collector)
        out, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"a measurement failed: {load}")
    found: dict[str, float] = json.loads(out.splitlines()[-1])
    return found


async def compared(server_url: str, runs: int, rounds: int) -> dict[str, float]:
    """Return each load's throughput with telemetry over that without, as the median of pairs."""
    ratios: dict[str, float] = {}
    async with receiver() as collector:
        for load in FLOWS:
            count = runs if load == "short" else max(20, runs // 3)
            pairs: list[tuple[float, float]] = []
            for turn in range(rounds):
                order = ("", collector) if turn % 2 else (collector, "")
                found = {where: await measured(server_url, load, count, where) for where in order}
                pairs.append((found[collector]["per_second"], found[""]["per_second"]))
                spans = found[collector]["spans"] / (count + WARM)
                print(
                    f"  {load}, pair {turn + 1}: {pairs[-1][0]:.1f} runs/s with, {pairs[-1][1]:.1f} without,"
                    f" {spans:.1f} spans a run; process {found[collector]['cpu_ms']:.2f} ms a run with,"
                    f" {found['']['cpu_ms']:.2f} without"
                )
            ratios[load] = statistics.median(on / off for on, off in pairs)
            on, off = (statistics.median(side) for side in zip(*pairs, strict=True))
            print(f"{load}: {on:.1f} runs/s with telemetry, {off:.1f} without, medians of {rounds}")
    return ratios


async def main() -> int:
    """Measure, or be one measurement."""
    parser = argparse.ArgumentParser(description="What telemetry costs.")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", choices=list(FLOWS), help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--collector", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        await child(arguments.child, arguments.url, arguments.runs, arguments.collector)
        return 0
    async with server() as url:
        ratios = await compared(url, arguments.runs, arguments.rounds)
    for load, ratio in ratios.items():
        print(f"{load}, with telemetry over without: {ratio:.3f} (bar >= {BAR})")
    return 0 if min(ratios.values()) >= BAR else 1


if __name__ == "__main__":
    if sys.argv[1:] == ["--collect"]:
        collect()
    sys.exit(asyncio.run(main()))
