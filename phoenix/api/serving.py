"""Serve the application until told to stop; requests under way then have some time to end."""

from __future__ import annotations

import asyncio
import math
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from phoenix.errors import SettingInvalid

KEEP_ALIVE_SECONDS = 30
HEADER_BYTES = 64 * 1024


HEAD_SECONDS = 10.0
"""How long a client may take from its first byte, or from connecting, to the end of a request's head."""
OPEN_FILES = 65_536
"""Sockets are files: as many as the system lets this process have, up to so many."""


class _Patience(asyncio.Protocol):
    """Leaves clients that never come to the end of a request's head.

    The library waits for ever for the first byte, and for each one after it.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    cycle: Any
    _impatient: asyncio.TimerHandle | None = None
    _is_away = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def handle_websocket_upgrade(self, *event: Any) -> None:
        self._calm()
        super().handle_websocket_upgrade(*event)  # type: ignore[misc]
        # From here on another protocol has the connection.
        self._is_away = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._calm()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Begin to wait where no request is being answered; more bytes of a head give no more time."""
        if self._is_away or (self.cycle is not None and not self.cycle.response_complete):
            self._calm()
        elif self._impatient is None:
            self._impatient = self.loop.call_later(HEAD_SECONDS, self._leave)

    def _calm(self) -> None:
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None

    def _leave(self) -> None:
        self._impatient = None
        if not self.transport.is_closing():
            self.transport.close()


class PlainProtocol(_Patience, H11Protocol):
    """The server's protocol in Python alone, which bounds what it keeps of a head by itself."""


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:  # the parser in C is not everywhere to be had
    Protocol: type[asyncio.Protocol] = PlainProtocol
else:

    class QuickProtocol(_Patience, HttpToolsProtocol):
        """The server's protocol with a parser in C: that keeps what it cannot tell yet, however much."""

        _untold = 0
        """Bytes since the parser told of a head's end, or of a part of a body."""

        def data_received(self, data: bytes) -> None:
            self._untold += len(data)
            super().data_received(data)
            if self._untold > HEADER_BYTES and not self._is_away and not self.transport.is_closing():
                self.send_400_response("The head of this request is too large.")

        def on_headers_complete(self) -> None:
            self._untold = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._untold = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._untold = 0
            super().on_message_complete()

    Protocol = QuickProtocol


def more_files() -> None:
    """Let this process have as many open files as the system allows, up to `OPEN_FILES`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Server(uvicorn.Server):
    """A server that leaves signals to whoever runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    stopping: asyncio.Event,
    drain_seconds: float,
    ready: Callable[[int], None],
    max_connections: int | None = None,
) -> None:
    """Serve until `stopping` is set.

    Args:
        app: What is served.
        host: Where it listens.
        port: On which port; 0 for any that is free.
        stopping: Ends it.
        drain_seconds: How long requests that are under way may go on then.
        ready: Is told the port once connections are taken.
        max_connections: Beyond so many at once clients get 503.

    Raises:
        SettingInvalid: the address cannot be listened on.
    """
    more_files()
    config = uvicorn.Config(
        app,
        http=Protocol,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(drain_seconds),
        h11_max_incomplete_event_size=HEADER_BYTES,
        limit_concurrency=max_connections,
        ws_max_size=HEADER_BYTES,
    )
    try:
        listening = config.bind_socket()
    except SystemExit as error:  # the library's way to say that the address is in use
        raise SettingInvalid(
            f"Nothing can listen on {host}:{port}.", field="PHOENIX_PORT", hint="Is it in use? Give another."
        ) from error
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 the library has no event for it
            await asyncio.sleep(0.01)
        ready(listening.getsockname()[1])
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    finally:
        server.should_exit = True
        await serving
