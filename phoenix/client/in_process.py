"""Requests to an application of this very process: no socket, so nobody else on the machine can reach it.

httpx's own `ASGITransport` hands an answer over when it is whole, and a stream of events never is. Here it
comes in pieces, as over a network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from starlette.types import ASGIApp

QUEUED = 16
"""Pieces of an answer that may wait for their reader."""
CLOSE_SECONDS = 1.0
"""How long the application may take to notice that its reader has gone."""

Message = MutableMapping[str, Any]


class InProcess(httpx.AsyncBaseTransport):
    """Carries requests to an application.

    Args:
        app: What answers. It is served as by a server that speaks ASGI 2.3: it hears when its reader leaves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[_Exchange] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the answer as soon as it begins."""
        exchange = _Exchange(self._app, _scope(request), await request.aread())
        self._open.add(exchange)
        exchange.task.add_done_callback(lambda _: self._open.discard(exchange))
        try:
            status, headers = await exchange.begun()
        except BaseException:
            await exchange.end(grace_seconds=0)
            raise
        return httpx.Response(status, headers=headers, stream=exchange)

    async def aclose(self) -> None:
        """Leave all answers that are still coming."""
        await asyncio.gather(*(exchange.aclose() for exchange in tuple(self._open)))


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": None,
        "root_path": "",
    }


class _Exchange(httpx.AsyncByteStream):
    """One request, and its answer as it comes."""

    def __init__(self, app: ASGIApp, scope: dict[str, Any], body: bytes) -> None:
        self._body: bytes | None = body
        self._answer: asyncio.Queue[Message] = asyncio.Queue(QUEUED)
        self._left = asyncio.Event()
        self.task = asyncio.ensure_future(app(scope, self._receive, self._answer.put))

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def begun(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Return status and headers."""
        start = await self._next()
        return start["status"], list(start["headers"])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_more = True
        while is_more:
            message = await self._next()
            is_more = message.get("more_body", False)
            if body := message.get("body", b""):
                yield bytes(body)

    async def _next(self) -> Message:
        """Return the next piece.

        Raises:
            ReadError: the application ended before its answer did.
        """
        coming = asyncio.ensure_future(self._answer.get())
        try:
            await asyncio.wait({coming, self.task}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
        if not self._answer.empty():
            return self._answer.get_nowait()
        raise httpx.ReadError("The answer broke off.")

    async def aclose(self) -> None:
        """Let the application end: what it would still say is not read."""
        await self.end(grace_seconds=CLOSE_SECONDS)

    async def end(self, *, grace_seconds: float) -> None:
        """Let the application end by itself for a while, and then cancel it."""
        self._left.set()
        await asyncio.wait({self.task}, timeout=grace_seconds)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})
