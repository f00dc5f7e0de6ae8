"""A port for operators: whether the event loop turns, whether the worker may take runs, and metrics."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import orjson

from phoenix import __version__
from phoenix.api.exposition import Exposition
from phoenix.engine.worker import RunWorker
from phoenix.errors import SettingInvalid
from phoenix.telemetry.metrics import CONTENT_TYPE

STALE_SECONDS = 6.0
"""Others take the runs of a worker whose heartbeat is older."""
REQUEST_SECONDS = 5.0
HEAD_BYTES = 8 * 1024
WORKING = ("active", "paused")


@asynccontextmanager
async def open_probe(
    worker: RunWorker | None, exposition: Exposition, *, port: int, host: str = ""
) -> AsyncIterator[int]:
    """Answer GET /livez, /readyz and /metrics beside the body; yield the port: 0 takes any that is free.

    `/livez` answers 200 while the event loop turns: a database that is away is no reason to restart.
    `/readyz` answers 200 while heartbeats reach the database and the worker is not draining, else 503; a
    process without a worker is as ready as it is alive. `/metrics` is for Prometheus. Nothing here asks who
    calls, and nothing names an organisation or a project: let only operators reach the port.

    Args:
        worker: That of this process; None where it has none.
        exposition: Writes the metrics.
        port: Where to listen.
        host: On which address; empty for all, IPv4 and IPv6 on the same port.

    Raises:
        SettingInvalid: the port cannot be listened on.
    """
    try:
        # asyncio alone would take two free ports for port 0, one for each family, and name either.
        listening = (
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
            if host or not socket.has_dualstack_ipv6()
            else socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        )
    except OSError as error:
        raise SettingInvalid(
            f"Port {port} cannot be listened on: {error.strerror}.",
            field="--probe-port",
            hint="Give one that is free.",
        ) from error
    server = await asyncio.start_server(
        partial(_answer, worker, exposition), sock=listening, limit=HEAD_BYTES
    )
    async with server:
        yield int(listening.getsockname()[1])


async def _answer(
    worker: RunWorker | None,
    exposition: Exposition,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(await _response(worker, exposition, head))
            await writer.drain()
    writer.close()


async def _response(worker: RunWorker | None, exposition: Exposition, head: bytes) -> bytes:
    method, path, *_ = [*head.split(b"\r\n", 1)[0].split(b" "), b"", b""]
    if method != b"GET":
        return _written("405 Method Not Allowed", {"detail": "Only GET is answered."})
    if path == b"/metrics":
        return _sent("200 OK", CONTENT_TYPE, await exposition())
    if path == b"/livez" or (path == b"/readyz" and worker is None):
        return _written("200 OK", {"version": __version__})
    if path != b"/readyz" or worker is None:
        return _written("404 Not Found", {"detail": "Known are /livez, /readyz and /metrics."})
    pulse, age = worker.pulse, worker.beat_age_seconds
    is_ready = age is not None and age < STALE_SECONDS and pulse.state in WORKING
    return _written(
        "200 OK" if is_ready else "503 Service Unavailable",
        {
            "version": __version__,
            "state": pulse.state,
            "reason": pulse.reason,
            "running": pulse.running,
            "heartbeat_age_seconds": None if age is None else round(age, 2),
        },
    )


def _written(status: str, body: dict[str, object]) -> bytes:
    return _sent(status, "application/json", orjson.dumps(body))


def _sent(status: str, kind: str, data: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + data
