"""Events of a project: pages, and live by server-sent events or websocket, from any number on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, cast
from uuid import UUID

import structlog
from anyio import CancelScope
from fastapi import APIRouter, Depends, Header, Query, Request, WebSocket
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from phoenix.api.access import Declared, Gatekeeper, Reader, check_permitted
from phoenix.domain.identity import Principal
from phoenix.domain.run import Event
from phoenix.engine.projects import Projects
from phoenix.errors import Forbidden, NotFound, PayloadInvalid, PhoenixError, RateLimited, Unauthenticated
from phoenix.ports import EventLog

log = structlog.get_logger(__name__)

router = APIRouter(prefix="/projects/{project_id}/events", tags=["events"])

BEAT_SECONDS = 15.0
"""A comment is sent so often when nothing happens, so that nobody in between closes the stream."""
SEND_SECONDS = 30.0
"""A reader that takes nothing for so long is dropped; it can come again from where it was."""
MOST_FOLLOWED = 1000
"""Streams and websockets that one user may have open at once, in each process."""
REFUSED = {Unauthenticated: 4401, Forbidden: 4403, NotFound: 4404, RateLimited: 4429}
"""Codes that a websocket is closed with."""

After = Annotated[int, Query(ge=0, description="Only events with a higher number.")]


def _log(app: Any) -> EventLog:
    log: EventLog = app.state.event_log
    return log


def _projects(app: Any) -> Projects:
    projects: Projects = app.state.projects
    return projects


@router.get("")
async def list_events(
    project_id: UUID,
    who: Reader,
    request: Request,
    after: After = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> list[Event]:
    """List a project's events in order. They are numbered from 1 without gaps."""
    await _projects(request.app).get(who, project_id)
    return await _log(request.app).read(project_id, after=after, limit=limit)


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events as they happen."}},
)
async def stream(
    project_id: UUID,
    who: Reader,
    request: Request,
    after: After = 0,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Follow a project: what has happened, then what happens, without gap or repeat.

    Each event's `id` is its number: a client that comes again with `Last-Event-ID` goes on from there.
    """
    await _projects(request.app).get(who, project_id)
    start = _start(last_event_id, after)
    place = _Place(request.app, who)
    events = _log(request.app).follow(project_id, after=start)
    headers = {"X-Accel-Buffering": "no"}
    answer = EventStream(_frames(events), media_type="text/event-stream", headers=headers)
    answer.place = place
    return answer


class _Place:
    """One of the streams that a user may have open.

    Raises:
        RateLimited: the user has none left.
    """

    def __init__(self, app: Any, who: Principal) -> None:
        self._open: Counter[UUID] = app.state.followed
        self._user_id = who.user_id
        if self._open[who.user_id] >= MOST_FOLLOWED:
            raise RateLimited(
                f"You follow {MOST_FOLLOWED} streams already.", after_seconds=5, hint="Close one of them."
            )
        self._open[who.user_id] += 1

    def leave(self) -> None:
        """Give it back."""
        self._open[self._user_id] -= 1
        if self._open[self._user_id] <= 0:
            del self._open[self._user_id]


class EventStream(StreamingResponse):
    """A stream that drops a reader who takes nothing: the server's buffer is all that it may fill."""

    place: _Place | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # However the stream ended.
            if self.place is not None:
                self.place.leave()

    async def stream_response(self, send: Send) -> None:
        async def bounded(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        try:
            await super().stream_response(bounded)
        except TimeoutError:
            log.info("reader_dropped", seconds=SEND_SECONDS)
        finally:
            # Where it rested amid a message nothing has reached it; what it awaits is shielded.
            await cast("Any", self.body_iterator).aclose()


def _start(last_event_id: str | None, after: int) -> int:
    if last_event_id is None or not last_event_id.strip():
        return after
    text = last_event_id.strip()
    if not text.isdecimal() or len(text) > 18:
        raise PayloadInvalid("Last-Event-ID is no event's number.", field="header.last-event-id")
    return int(text)


async def _frames(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    # The first bytes at once: a client then knows that it is connected.
    yield b": connected\n\n"
    async with aclosing(cast("Any", _beating(events))) as found:
        async for event in found:
            yield b": beat\n\n" if event is None else frame(event)


def frame(event: Event) -> bytes:
    """Return an event as a server-sent event."""
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()


async def _beating(events: AsyncIterator[Event]) -> AsyncIterator[Event | None]:
    """Yield events, and None whenever none came for a while; close what they come from at the end."""
    coming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=BEAT_SECONDS)
            if not done:
                yield None
                continue
            event = coming.result()
            if event is None:
                return
            yield event
            coming = asyncio.ensure_future(anext(events, None))
    finally:
        # A reader that leaves cancels all that is awaited here, again and again: behind this it cannot.
        with CancelScope(shield=True):
            coming.cancel()
            # It has to be over before its generator can be closed.
            await asyncio.wait({coming})
            await cast("Any", events).aclose()


@router.websocket("/ws", dependencies=[Depends(Declared("read"))])
async def follow(project_id: UUID, socket: WebSocket, after: After = 0) -> None:
    """Follow a project over a websocket: each event is one JSON message."""
    gatekeeper: Gatekeeper = socket.app.state.gatekeeper
    # A refusal before this would be a bare HTTP status, which no browser shows to a page.
    await socket.accept()
    try:
        who = await gatekeeper.principal(socket)
        check_permitted(who, "read", socket.path_params)
        await _projects(socket.app).get(who, project_id)
        place = _Place(socket.app, who)
    except PhoenixError as error:
        await socket.close(REFUSED.get(type(error), 4400), error.message[:120])
        return
    events = _log(socket.app).follow(project_id, after=after)
    sending = asyncio.ensure_future(_send(socket, events))
    leaving = asyncio.ensure_future(_until_gone(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.wait({sending, leaving})
        place.leave()


async def _send(socket: WebSocket, events: AsyncIterator[Event]) -> None:
    async with aclosing(cast("Any", events)):
        async for event in events:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(event.model_dump_json())
            except (TimeoutError, WebSocketDisconnect, RuntimeError):
                return  # gone, or too slow: it can come again from its last number


async def _until_gone(socket: WebSocket) -> None:
    """Read what a client sends, which means nothing, until it leaves."""
    try:
        while True:
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        return
