"""`phoenix worker`, `up` and `workers`: processes that work on whatever is due."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from phoenix.cli.output import print_json, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from phoenix.bootstrap import System
    from phoenix.cli.connection import Connection
    from phoenix.domain.worker import Worker
    from phoenix.settings import Settings
    from phoenix.workflows.loading import LoadedFlow

FIRST_KEY_FILE = "first-admin.key"
STALE_SHOWN_SECONDS = 6.0
"""A heartbeat older than this is marked: others take such a worker's runs."""


async def work(
    *,
    concurrency: int | None = None,
    queues: Sequence[str] = (),
    flows: Sequence[str] = (),
    probe_port: int | None = None,
    overrides: Sequence[str] = (),
) -> int:
    """Work until told to stop; then let steps that run finish for a while, and return 0.

    With a `probe_port`, /livez and /readyz on it say how the worker is, and /metrics what it does.
    """
    from contextlib import AsyncExitStack

    from phoenix.bootstrap import open_system
    from phoenix.workflows.loading import load_flow

    # Stores may be asked for secrets, which blocks.
    settings = (await asyncio.to_thread(worker_settings, concurrency)).overridden(overrides)
    loaded: dict[str, LoadedFlow] = {target: load_flow(target) for target in flows}
    known = {found.name: found.flow for found in loaded.values()}
    types = [kind for found in loaded.values() for kind in found.types]
    stopping = asked_to_stop()
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(
            open_system(settings, flows=known, types=types, queues=queues)
        )
        await stack.enter_async_context(_probed(system, probe_port, works=True))
        async with system.engine.worker(drain=True):
            say(f"working on {system.database}: {settings.concurrency} runs at once. Ctrl-C stops.")
            await stopping.wait()
            say(f"stopping: steps that run have {settings.drain_seconds:g} s; again to stop at once.")
        say("stopped: what did not finish is left to other workers.")
    return 0


async def up(
    *,
    concurrency: int | None = None,
    flows: Sequence[str] = (),
    host: str | None = None,
    port: int | None = None,
    probe_port: int | None = None,
    overrides: Sequence[str] = (),
) -> int:
    """Serve HTTP, and work, until told to stop; then let what runs finish for a while, and return 0."""
    from phoenix.bootstrap import open_system
    from phoenix.safety import check_safe
    from phoenix.workflows.loading import load_flow

    # Stores may be asked for secrets, which blocks.
    settings = (await asyncio.to_thread(worker_settings, concurrency)).overridden(overrides)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update=given)
    check_safe(settings, serves=True, works=settings.work)
    loaded = [load_flow(target) for target in flows]
    known = {found.name: found.flow for found in loaded}
    types = [kind for found in loaded for kind in found.types]
    stopping = asked_to_stop()
    async with (
        open_system(settings, execution=settings.work, flows=known, types=types) as system,
        _probed(system, probe_port, works=settings.work),
    ):
        if not settings.work:
            await _serve(system, stopping)
            return 0
        async with system.engine.worker(drain=True):
            await _serve(system, stopping)
    return 0


@asynccontextmanager
async def _probed(system: System, port: int | None, *, works: bool) -> AsyncIterator[None]:
    """Answer operators on a port beside the body, where one was given."""
    if port is None:
        yield
        return
    from phoenix.api.exposition import Exposition
    from phoenix.api.probe import open_probe
    from phoenix.engine.fleet import FleetWatch

    worker = system.engine.own_worker if works else None
    async with open_probe(
        worker, Exposition(FleetWatch(system.rows), system.traffic.breaker.states), port=port
    ) as taken:
        say(f"probes and metrics answer on port {taken}.")
        yield


async def _serve(system: System, stopping: asyncio.Event) -> None:
    from phoenix.api.serving import serve
    from phoenix.door import FIRST_ADMIN, open_door

    settings = system.settings

    def ready(port: int) -> None:
        say(f"serving http://{settings.host}:{port} (documentation at /docs), on {system.database}.")
        if settings.work:
            say(f"working on {settings.concurrency} runs at once. Ctrl-C stops.")

    async with open_door(system) as (app, key):
        if key is not None:
            _tell_first_key(settings, FIRST_ADMIN, key)
        await serve(
            app,
            host=settings.host,
            port=settings.port,
            stopping=stopping,
            drain_seconds=settings.drain_seconds,
            ready=ready,
        )
        say(f"stopping: what runs has {settings.drain_seconds:g} s; again to stop at once.")


def _tell_first_key(settings: Settings, admin: str, key: str) -> None:
    """Hand over the first key. In production what is printed is kept with the logs, so a file takes it."""
    if settings.environment != "production":
        say(f"made the first administrator, {admin}. Its API key, shown this once: {key}")
        return
    import os

    path = settings.home / FIRST_KEY_FILE
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(f"{key}\n")
    say(f"made the first administrator, {admin}. Its API key is in {path}: take it, then remove the file.")


def names(given: Sequence[str] | None) -> list[str]:
    """Return the names of comma lists."""
    return [name.strip() for text in given or () for name in text.split(",") if name.strip()]


def worker_settings(concurrency: int | None) -> Settings:
    """Return the settings of a process that works: it logs what it runs, unless told otherwise.

    Raises:
        SettingInvalid: a setting is wrong.
    """
    from phoenix.cli.session import open_settings
    from phoenix.telemetry.logs import configure_logs

    settings = open_settings()
    if "log_level" not in settings.model_fields_set:
        configure_logs("info", settings.log_format, quiet=("procrastinate", "httpx", "alembic", "uvicorn"))
    return settings if concurrency is None else settings.model_copy(update={"concurrency": concurrency})


def asked_to_stop() -> asyncio.Event:
    """Return what SIGTERM and Ctrl-C set; the second of them cancels the command."""
    stopping = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def asked() -> None:
        if stopping.is_set():
            task.cancel()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    return stopping


async def list_workers(*, server: str = "", as_json: bool = False) -> int:
    """Print the workers of the database."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        found = await connection.client.workers()
    if as_json:
        for worker in found:
            print_json(worker.model_dump(mode="json"))
        return 0
    _print_workers(found)
    return 0


def _print_workers(found: list[Worker]) -> None:
    from rich import box
    from rich.table import Table

    from phoenix.cli.documents import line, new_console

    if not found:
        new_console().print("No worker is running. Start one: phoenix worker")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Worker", "State", "Heartbeat", "Load", "Version", "Queues"):
        table.add_column(name, overflow="fold")
    for worker in found:
        age = worker.heartbeat_age_seconds
        state = "lost" if age > STALE_SHOWN_SECONDS else worker.state
        cells = (
            f"{worker.host}:{worker.pid}",
            f"{state} ({worker.reason})" if worker.reason else state,
            f"{age:.0f} s ago",
            f"{worker.running}/{worker.concurrency}",
            worker.version,
            ", ".join(worker.queues),
        )
        table.add_row(*(line(cell) for cell in cells))
    new_console().print(table)


async def hint_at_workers(connection: Connection) -> None:
    """Say so when nobody works on this database."""
    if not (await connection.client.standing()).workers:
        say("hint: No worker is running: start one with phoenix worker")
