"""Requests to an application of this process come and go as over a network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from phoenix.client.in_process import QUEUED, InProcess

LONGEST_SECONDS = 5.0


class App:
    """An application that counts what has begun and ended."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.sent = 0
        routes = [
            Route("/echo", self.echo, methods=["POST"]),
            Route("/two", self.two),
            Route("/endless", self.endless),
        ]
        self.app = Starlette(routes=routes)

    async def echo(self, request: Request) -> Response:
        body = (await request.body()).decode()
        return JSONResponse({"body": body, "query": request.url.query, "key": request.headers["x-api-key"]})

    async def two(self, _request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await self.go_on.wait()
            yield b"second"

        return StreamingResponse(parts())

    async def endless(self, _request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield b"more"
                self.sent += 1

        class Ending(StreamingResponse):
            async def stream_response(own, send: Send) -> None:
                try:
                    await StreamingResponse.stream_response(own, send)
                finally:
                    self.ended.set()

        return Ending(parts())


def client(app: object) -> httpx.AsyncClient:
    transport = InProcess(app)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://phoenix", headers={"X-API-Key": "k"})


async def test_a_request_is_carried_whole() -> None:
    """Body, query and headers go in; status and body come back."""
    async with client(App().app) as http:
        answer = await http.post("/echo?a=1", content="hello")
        missing = await http.get("/nothing")
    assert answer.json() == {"body": "hello", "query": "a=1", "key": "k"}
    assert missing.status_code == 404


async def test_an_answer_comes_in_pieces() -> None:
    """The first is read while the application still makes the second."""
    app = App()
    async with (
        asyncio.timeout(LONGEST_SECONDS),
        client(app.app) as http,
        http.stream("GET", "/two") as answer,
    ):
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"first"
        app.go_on.set()
        assert await anext(pieces) == b"second"


async def test_an_application_waits_for_its_reader_and_hears_when_it_leaves() -> None:
    """A slow reader fills no memory, and nothing goes on for one who has gone."""
    app = App()
    async with asyncio.timeout(LONGEST_SECONDS), client(app.app) as http:
        async with http.stream("GET", "/endless") as answer:
            assert await anext(answer.aiter_bytes()) == b"more"
            await asyncio.sleep(0.05)
            assert app.sent <= QUEUED + 2
        await app.ended.wait()


async def test_a_client_that_ends_leaves_what_still_comes() -> None:
    """Nobody reads it any more."""
    app = App()
    async with asyncio.timeout(LONGEST_SECONDS):
        http = client(app.app)
        answer = await http.send(http.build_request("GET", "/endless"), stream=True)
        await http.aclose()
        assert app.ended.is_set()
        await answer.aclose()


async def test_an_answer_that_breaks_off_is_no_whole_one() -> None:
    """Before its beginning, and after it."""

    async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
        return

    async def broken(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    for app in (silent, broken):
        async with asyncio.timeout(LONGEST_SECONDS), client(app) as http:
            with pytest.raises(httpx.ReadError):
                await http.get("/")


async def test_a_request_that_is_given_up_ends_in_the_application() -> None:
    """Ctrl-C while an answer is waited for."""
    cancelled = asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, _send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with asyncio.timeout(LONGEST_SECONDS), client(slow) as http:
        asking = asyncio.create_task(http.get("/"))
        await asyncio.sleep(0.05)
        asking.cancel()
        await cancelled.wait()
        await asyncio.wait({asking})
        assert asking.cancelled()
