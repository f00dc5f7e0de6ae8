"""Events over HTTP: replayed from any number, then live, without gap or repeat."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, cast
from uuid import UUID

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from phoenix.api import events as module
from phoenix.domain.run import Event
from phoenix.ports import EventLog
from phoenix.storage.events import EventRows
from tests.integration.api.asgi import call, scope_of
from tests.integration.api.conftest import Front, Served
from tests.integration.api.test_api_projects import launched


async def write(served: Served, project_id: str, count: int) -> None:
    from uuid import UUID

    rows = EventRows(served.front.system.database)
    for n in range(count):
        await rows.append(UUID(project_id), "thing_happened", {"n": n, "text": "a\nb"})


async def take(
    served: Served, token: str, project_id: str, count: int, **headers: str
) -> list[dict[str, Any]]:
    """Read so many events of the stream."""
    found: list[dict[str, Any]] = []
    path = f"/api/v1/projects/{project_id}/events/stream"
    async with (
        asyncio.timeout(15),
        served.client(token) as http,
        http.stream("GET", path, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if len(found) == count:
                    break
    return found


async def test_a_stream_replays_and_goes_on_live(served: Served) -> None:
    """A reader that comes late misses nothing, and one that comes again repeats nothing."""
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    reading = asyncio.create_task(take(served, token, project_id, 6))
    await write(served, project_id, 2)
    await asyncio.sleep(0.2)
    await write(served, project_id, 5)
    first = await reading
    assert [e["seq"] for e in first] == [1, 2, 3, 4, 5, 6]
    rest = await take(served, token, project_id, 2, **{"Last-Event-ID": str(first[-1]["seq"])})
    assert [e["seq"] for e in rest] == [7, 8]


async def test_many_readers_see_the_same(served: Served) -> None:
    """Thirty at once, each from another place."""
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    readers = [
        asyncio.create_task(take(served, token, project_id, 20 - n % 5, **{"Last-Event-ID": str(n % 5)}))
        for n in range(30)
    ]
    await asyncio.sleep(0.2)
    await write(served, project_id, 19)
    for n, found in enumerate(await asyncio.gather(*readers)):
        assert [e["seq"] for e in found] == list(range(n % 5 + 1, 21))


async def test_a_wrong_place_is_refused(served: Served) -> None:
    """A header that is no number, or a negative one."""
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    path = f"/api/v1/projects/{project_id}/events/stream"
    async with served.client(token) as http:
        wrong = await http.get(path, headers={"Last-Event-ID": "x"})
        assert (wrong.status_code, wrong.json()["field"]) == (422, "header.last-event-id")
        assert (await http.get(path, params={"after": -1})).status_code == 422


async def test_a_websocket_does_the_same(served: Served) -> None:
    """Each event is one message."""
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    await write(served, project_id, 3)
    url = f"ws://127.0.0.1:{served.port}/api/v1/projects/{project_id}/events/ws?after=2"
    async with connect(url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        assert [json.loads(await socket.recv())["seq"] for _ in range(2)] == [3, 4]
        await write(served, project_id, 1)
        assert json.loads(await socket.recv())["seq"] == 5


@pytest.mark.parametrize(("who", "code"), [("nobody", 4401), ("stranger", 4404)])
async def test_a_websocket_is_closed_to_who_may_not_read(served: Served, who: str, code: int) -> None:
    """Nothing is sent before it is known who asks."""
    project_id = await launched(served.front)
    headers = {}
    if who == "stranger":
        organisation = await served.front.organisation()
        token = await served.front.member("admin", organisation_id=organisation)
        headers["Authorization"] = f"Bearer {token}"
    url = f"ws://127.0.0.1:{served.port}/api/v1/projects/{project_id}/events/ws"
    with pytest.raises(ConnectionClosed) as closed:
        async with connect(url, additional_headers=headers) as socket:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


async def test_a_reader_that_takes_nothing_is_dropped(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection ends; others go on; it can come again from where it was."""
    monkeypatch.setattr(module, "SEND_SECONDS", 0.5)
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
    request = (
        f"GET /api/v1/projects/{project_id}/events/stream HTTP/1.1\r\nHost: phoenix\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    )
    writer.write(request.encode())
    await writer.drain()
    from uuid import UUID

    rows = EventRows(served.front.system.database)
    for _ in range(40):
        await rows.append(UUID(project_id), "thing_happened", {"text": "x" * 500_000})
    async with asyncio.timeout(15):
        while served.front.app_tails():
            await asyncio.sleep(0.05)
    writer.close()
    del reader
    assert len(await take(served, token, project_id, 3)) == 3


async def test_a_reader_that_leaves_at_once_leaves_nothing(
    wide_front: Front, caplog: pytest.LogCaptureFixture
) -> None:
    """No crash in the log, and nobody reads on in its name."""
    project_id = await launched(wide_front)
    headers = {"Authorization": f"Bearer {await wide_front.member('viewer')}"}
    for _ in range(5):
        answer = await call(
            wide_front.app, "GET", f"/api/v1/projects/{project_id}/events/stream?after=999", headers
        )
        assert answer.status == 200
    async with asyncio.timeout(15):
        while wide_front.app_tails():
            await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if "request_crashed" in record.getMessage()]
    assert not wide_front.state.followed


class Watched:
    """The real log, which takes a moment to be left, as giving back a connection does."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.open = 0

    async def follow(self, project_id: UUID, *, after: int = 0) -> AsyncIterator[Event]:
        self.open += 1
        try:
            async with aclosing(cast("Any", self.log.follow(project_id, after=after))) as events:
                async for event in events:
                    yield event
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            self.open -= 1


@pytest.mark.parametrize("after", [0, 999])
async def test_a_stream_is_over_only_when_what_it_reads_is_closed(wide_front: Front, after: int) -> None:
    """A reader that leaves cancels all that is awaited, but not the closing; whether events came or not."""
    project_id = await launched(wide_front)
    watched = Watched(wide_front.state.event_log)
    wide_front.state.event_log = watched
    headers = {"Authorization": f"Bearer {await wide_front.member('viewer')}"}
    path = f"/api/v1/projects/{project_id}/events/stream?after={after}"
    for _ in range(3):
        assert (await call(wide_front.app, "GET", path, headers)).status == 200
        # Not a moment later: a generator that is left open is closed by whoever collects garbage.
        assert watched.open == 0


async def test_a_stream_whose_reader_leaves_amid_a_message_is_closed_as_well(wide_front: Front) -> None:
    """The generator rests then, so that cancelling what is awaited does not reach it."""
    project_id = await launched(wide_front)
    watched = Watched(wide_front.state.event_log)
    wide_front.state.event_log = watched
    headers = {"Authorization": f"Bearer {await wide_front.member('viewer')}"}
    scope = scope_of("http", "GET", f"/api/v1/projects/{project_id}/events/stream", headers)
    left, requests = asyncio.Event(), [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if requests:
            return requests.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        if b"data: " in message.get("body", b""):
            left.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(15):
        await wide_front.app(scope, receive, send)
    assert watched.open == 0


async def test_a_reader_that_leaves_leaves_nothing(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads for it any more, and nothing has crashed."""
    token, project_id = await served.front.member("viewer"), await launched(served.front)
    await take(served, token, project_id, 1)
    path = f"/api/v1/projects/{project_id}/events/stream?after=1"
    async with asyncio.timeout(15), served.client(token) as http:
        async with http.stream("GET", path) as answer:
            pieces = answer.aiter_bytes()
            assert await anext(pieces)
            while not served.front.app_tails():
                await asyncio.sleep(0.01)
        while served.front.app_tails():
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert caplog.records == []
