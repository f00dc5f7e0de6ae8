"""Clients that mean no good, over sockets: others are served all the while."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from phoenix.api import events, serving
from phoenix.api.middleware import MAX_DEPTH
from phoenix.domain.run import DEFAULT_ORGANISATION
from tests.integration.api.conftest import Front, Served
from tests.integration.api.test_api_projects import launched
from tests.integration.api.world import member

SOCKETS = 1000
QUICK_SECONDS = 10.0
"""However busy the machine is."""


@pytest.fixture(params=[serving.Protocol])
async def open_door(
    wide_front: Front, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Served]:
    """Serve a front door as the product does."""
    monkeypatch.setattr(serving, "Protocol", request.param)
    ports: asyncio.Queue[int] = asyncio.Queue()
    stopping = asyncio.Event()
    running = asyncio.create_task(
        serving.serve(
            wide_front.app,
            host="127.0.0.1",
            port=0,
            stopping=stopping,
            drain_seconds=1,
            ready=ports.put_nowait,
        )
    )
    yield Served(wide_front, await ports.get())
    stopping.set()
    await running


async def others_are_served(door: Served, token: str) -> None:
    """Read a list, from the database, and quickly."""
    async with asyncio.timeout(QUICK_SECONDS), door.client(token) as http:
        assert (await http.get("/api/v1/projects")).status_code == 200


async def closed(reader: asyncio.StreamReader) -> None:
    """Return once the other side has closed."""
    with suppress(ConnectionError):
        while await reader.read(65_536):
            pass


@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "half a head"]
)
async def test_a_thousand_slow_clients_keep_nobody_out(
    open_door: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Others are answered meanwhile, and the slow ones are left after their time."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 5.0)
    token = await open_door.front.member("viewer")
    gate = asyncio.Semaphore(100)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
            writer.write(sent)
            return reader, writer

    async with asyncio.timeout(120):
        sockets = await asyncio.gather(*(connect() for _ in range(SOCKETS)))
        await others_are_served(open_door, token)
        await asyncio.gather(*(closed(reader) for reader, _ in sockets))
        await others_are_served(open_door, token)
        for _, writer in sockets:
            writer.close()


async def test_a_client_that_drips_is_left(open_door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte gives it no more time; one that sends a request in time is answered again and again."""
    monkeypatch.setattr(serving, "HEAD_SECONDS", 1.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    left = asyncio.create_task(closed(reader))
    started = time.monotonic()
    async with asyncio.timeout(20):
        while not left.done():
            with suppress(ConnectionError):
                writer.write(b"G")
                await writer.drain()
            await asyncio.sleep(0.1)
    assert time.monotonic() - started >= 0.9
    async with open_door.client() as http:
        for _ in range(4):
            assert (await http.get("/livez")).status_code == 200
            await asyncio.sleep(0.5)  # longer in all than a head may take
    writer.close()


async def test_an_endless_body_is_refused_early(open_door: Served) -> None:
    """A gigabyte in chunks: 413, long before it has been sent, and others are served."""
    token = await open_door.front.member("developer")
    reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
    head = (
        "POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    writer.write(head.encode())
    chunk = b"100000\r\n" + b"[" * 0x100000 + b"\r\n"
    sent = 0
    answer = asyncio.create_task(reader.read(4096))
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            while sent < 1024 and not answer.done():
                writer.write(chunk)
                await writer.drain()
                sent += 1
        # What was still on its way may make the system throw the answer away with the connection.
        with suppress(ConnectionError):
            assert b" 413 " in (await answer).split(b"\r\n")[0]
    assert sent < 64
    writer.close()
    await others_are_served(open_door, token)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_client_reads_why_its_body_is_too_large(open_door: Served, is_chunked: bool) -> None:
    """Also when it reads nothing before all is sent."""
    body = b"x" * (6 * 1024**2)

    async def chunks() -> AsyncIterator[bytes]:
        for n in range(0, len(body), 65_536):
            yield body[n : n + 65_536]

    async with open_door.client(await open_door.front.member("developer")) as http:
        for _ in range(3):
            answer = await http.post("/api/v1/projects", content=chunks() if is_chunked else body)
            assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


async def test_a_declared_gigabyte_is_refused_unread(open_door: Served) -> None:
    """By its length alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
    writer.write(b"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
    async with asyncio.timeout(20):
        assert b" 413 " in (await reader.readline())
    writer.close()


@pytest.mark.parametrize("opening", ["[", '{"a":'])
async def test_a_deeply_nested_body_is_refused(open_door: Served, opening: str) -> None:
    """Before anything parses it."""
    async with open_door.client(await open_door.front.member("developer")) as http:
        answer = await http.post("/api/v1/projects", content=(opening * 500_000).encode()[: 2 * 1024**2 - 1])
        assert (answer.status_code, answer.json()["code"]) == (422, "payload_invalid")
        assert f"{MAX_DEPTH} deep" in answer.json()["detail"]


async def test_a_body_that_drips_is_refused(open_door: Served) -> None:
    """Its time is that of the whole body."""
    token = await open_door.front.member("developer")
    inner = open_door.front.app
    while not hasattr(inner, "max_bytes"):
        inner = inner.app
    inner.seconds = 1.0
    reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
    writer.write(
        b"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        b"Authorization: Bearer " + token.encode() + b"\r\n\r\n{"
    )
    async with asyncio.timeout(20):
        first = await reader.read(4096)
    assert b" 422 " in first.split(b"\r\n")[0]
    assert json.loads(first.rpartition(b"\r\n\r\n")[2])["code"] == "payload_invalid"
    writer.close()


async def test_one_user_opens_so_many_streams(open_door: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are refused, by stream and by websocket; others follow, and one that ends makes room."""
    monkeypatch.setattr(events, "MOST_FOLLOWED", 3)
    project_id = await launched(open_door.front)
    who = await member(open_door.front, "viewer", DEFAULT_ORGANISATION)
    path = f"/api/v1/projects/{project_id}/events/stream"
    async with asyncio.timeout(60), open_door.client(who.token()) as http:
        readers = [http.stream("GET", path) for _ in range(3)]
        answers = [await reader.__aenter__() for reader in readers]
        assert {answer.status_code for answer in answers} == {200}
        refused = await http.get(path)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        async with (
            open_door.client(await open_door.front.member("viewer")) as other,
            other.stream("GET", path) as answer,
        ):
            assert answer.status_code == 200
        await readers[0].__aexit__(None, None, None)
        while True:
            async with http.stream("GET", path) as again:
                if again.status_code == 200:
                    break
            await asyncio.sleep(0.1)
        for reader in readers[1:]:
            await reader.__aexit__(None, None, None)


both = pytest.mark.parametrize("open_door", [serving.PlainProtocol, serving.Protocol], indirect=True)
"""With either parser: the one in C is not everywhere to be had."""


async def refused_head(door: Served, head: bytes, *more: bytes) -> bytes:
    """Send the beginning of a request in pieces; return what is answered before the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    answer = asyncio.create_task(reader.read())
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            for piece in (head, *more):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        said = b""
        with suppress(ConnectionError):
            said = await answer
    writer.close()
    return said


@both
@pytest.mark.parametrize("field", [b"x" * 8192, b"y: z\r\n" * 1300], ids=["one field", "many fields"])
async def test_a_head_without_end_is_refused(open_door: Served, field: bytes) -> None:
    """Whether it is one endless field or endless many: it is kept only so far."""
    token = await open_door.front.member("viewer")
    said = await refused_head(open_door, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: ", *[field] * 20)
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    await others_are_served(open_door, token)


@both
async def test_trailers_without_end_are_refused(open_door: Served) -> None:
    """What follows a chunked body is kept only so far as well."""
    token = await open_door.front.member("developer")
    head = (
        b"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2\r\n{}\r\n0\r\nX-Long: "
    )
    said = await refused_head(open_door, head, *[b"x" * 8192] * 20)
    assert said.startswith(b"HTTP/1.1 400")
    await others_are_served(open_door, token)


@both
async def test_requests_are_answered_in_their_order(open_door: Served) -> None:
    """Several sent at once over one connection, one of them with a body, get their own answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", open_door.port)
    writer.write(
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /api/v1/auth/sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 2\r\n\r\n{}"
        b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"422", b"404"]
