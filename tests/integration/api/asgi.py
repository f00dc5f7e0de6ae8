"""Requests given to an application without a network: thousands of them in seconds, and streams that end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

OPEN = 0
"""What `closing` returns for a websocket that was let in."""
SECONDS = 120.0


@dataclass(frozen=True)
class Answered:
    """An answer, or what had come of a stream when it was left."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def scope_of(kind: str, method: str, path: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what a server would tell the application of a request."""
    where, _, query = path.partition("?")
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {
        "type": kind,
        # Before 2.4 an application has to listen for a client that leaves.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": where,
        "raw_path": where.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"host", b"phoenix"), *pairs],
        "client": ("127.0.0.1", 1),
        "server": ("phoenix", 80),
    }
    return scope | ({"method": method} if kind == "http" else {"subprotocols": []})


async def call(
    app: Any, method: str, path: str, headers: Mapping[str, str] | None = None, body: Any = None
) -> Answered:
    """Make a request with a JSON body; leave a stream of events after its first bytes."""
    sent = b"" if body is None else json.dumps(body).encode()
    given = dict(headers or {}) | ({"content-type": "application/json"} if body is not None else {})
    scope = scope_of("http", method, path, given)
    left = asyncio.Event()
    status, found, chunks = 0, Headers(), []
    requests = [{"type": "http.request", "body": sent, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status, found
        if message["type"] == "http.response.start":
            status, found = message["status"], Headers(raw=message["headers"])
        else:
            chunks.append(message.get("body", b""))
            if "event-stream" in found.get("content-type", ""):
                left.set()

    async with asyncio.timeout(SECONDS):
        await app(scope, receive, send)
    return Answered(status, found, b"".join(chunks))


async def closing(app: Any, path: str, headers: Mapping[str, str]) -> int:
    """Open a websocket, and return the code that it is closed with; `OPEN` when it stays open a while."""
    scope = scope_of("websocket", "", path, headers)
    left = asyncio.Event()
    code = OPEN
    messages = [{"type": "websocket.connect"}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal code
        if message["type"] == "websocket.close":
            code = message["code"]
            left.set()
        elif message["type"] == "websocket.send":
            left.set()  # an event came: it is open

    async with asyncio.timeout(SECONDS):
        await app(scope, receive, send)
    return code
