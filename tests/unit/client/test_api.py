"""A client tries again where that helps, does nothing twice, and says what it cannot use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from phoenix.api.errors import of_error
from phoenix.api.events import frame
from phoenix.client import api, patience
from phoenix.client.api import Client
from phoenix.client.in_process import InProcess
from phoenix.domain.approval import Decision
from phoenix.domain.run import Event, Project
from phoenix.engine.launch import Launch
from phoenix.errors import (
    DatabaseUnavailable,
    DecisionConflict,
    NotFound,
    RateLimited,
    ServiceFailed,
    ServiceUnreachable,
)

PROJECT_ID = uuid4()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = Project(id=PROJECT_ID, title="x", requirement="x", model="m", created_at=NOW)
LOST = object()
"""Stands for a connection that breaks before an answer."""

Answer = Response | object


class Service:
    """Gives the answers of a script, one for each request, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str, str, str]] = []
        self.queries: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        key = request.headers.get("idempotency-key", request.headers.get("last-event-id", ""))
        body = (await request.body()).decode()
        self.requests.append((request.method, request.url.path, key, body))
        self.queries.append(request.url.query)
        answer = self.answers.pop(0)
        if isinstance(answer, Response):
            await answer(scope, receive, send)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)


@asynccontextmanager
async def client(
    service: Service, *, seconds: float = 5.0, said: list[str] | None = None
) -> AsyncIterator[Client]:
    transport = InProcess(service)
    say: Callable[[str], None] = (said if said is not None else []).append
    async with httpx.AsyncClient(transport=transport, base_url="http://phoenix") as http:
        yield Client(http, place="there", patience_seconds=seconds, say=say)


def page() -> Response:
    return JSONResponse({"items": [], "next": None})


def event(seq: int) -> Event:
    return Event(seq=seq, project_id=PROJECT_ID, kind="step_started", at=NOW)


def stream(*parts: bytes, breaks: bool = False) -> Response:
    async def content() -> AsyncIterator[bytes]:
        for part in parts:
            yield part
        if breaks:
            raise ConnectionResetError

    return StreamingResponse(content(), media_type="text/event-stream")


async def test_a_change_that_got_no_answer_is_asked_for_again_under_its_key() -> None:
    """Whether it arrived or not, it is done once; another change has another key."""
    launched = JSONResponse(PROJECT.model_dump(mode="json"), status_code=202)
    paused = Response(status_code=202)
    service = Service(page(), LOST, of_error(DatabaseUnavailable()), launched, paused)
    async with client(service) as found:
        await found.projects()
        launch = Launch(requirement="Build it.", model="m", approvals="spec").checked()
        assert await found.launch(launch) == PROJECT
        await found.pause(PROJECT_ID)
    _, first, second, third, other = service.requests
    assert first == second == third
    assert len(first[2]) == 36
    assert other[2] not in ("", first[2])
    assert json.loads(first[3])["approvals"] == "spec"


async def test_a_service_that_never_answered_is_not_waited_for() -> None:
    """A wrong address is said at once."""
    service = Service(LOST, page())
    async with client(service) as found:
        with pytest.raises(ServiceUnreachable, match="there cannot be reached"):
            await found.projects()
    assert len(service.requests) == 1


async def test_a_service_that_stays_away_is_given_up() -> None:
    """After so long as it was told to wait, and people hear of it once."""
    service, said = Service(page(), *[LOST] * 1000), list[str]()
    async with client(service, seconds=0.1, said=said) as found:
        await found.projects()
        with pytest.raises(ServiceUnreachable):
            await found.projects()
        with pytest.raises(ServiceUnreachable):
            await found.overview(PROJECT_ID, patient=False)
    assert len(said) == 1
    assert "Trying again for 0.1 s" in said[0]


async def test_a_refusal_is_not_tried_again() -> None:
    """The service meant it."""
    refused = of_error(DecisionConflict("Too late.", hint="Look again."))
    service = Service(page(), refused, page())
    async with client(service) as found:
        await found.projects()
        with pytest.raises(DecisionConflict, match="Too late"):
            await found.decide(uuid4(), Decision(verdict="approve"), digest="sha256:" + "0" * 64)
    assert len(service.requests) == 2


async def test_who_is_too_fast_waits_as_long_as_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as long as after a lost connection."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(patience.asyncio, "sleep", sleep)
    service = Service(of_error(RateLimited(after_seconds=3)), page(), of_error(RateLimited(after_seconds=99)))
    async with client(service) as found:
        assert await found.projects() == []
        with pytest.raises(RateLimited):
            await found.projects()
    assert slept == [3.0]


async def test_events_go_on_where_a_connection_was_lost() -> None:
    """Whether it ends, breaks, is refused or comes to nothing; without gap or repeat."""
    service = Service(
        stream(b": connected\n\n", frame(event(1)), frame(event(2)), breaks=True),
        of_error(DatabaseUnavailable()),
        LOST,
        stream(b": connected\n\n", frame(event(3))),
        stream(frame(event(4)), b": beat\n\n"),
    )
    said: list[str] = []
    async with client(service, said=said) as found, aclosing(found.follow(PROJECT_ID)) as events:
        seqs = [(await anext(events)).seq for _ in range(4)]
    assert seqs == [1, 2, 3, 4]
    assert [key for _, _, key, _ in service.requests] == ["0", "2", "2", "2", "3"]
    assert said[-1] == "the service answers again"


async def test_any_answer_says_that_the_service_is_back() -> None:
    """Whoever waits ends with the first answer there is, which need not be the stream's; it is said once."""
    overview = {"project": PROJECT.model_dump(mode="json"), "run": run(PROJECT_ID), "children": []}
    rest = {"approvals": [], "usage": {}, "artifacts": {}}
    service = Service(page(), LOST, LOST, LOST, JSONResponse(overview | rest), stream(frame(event(1))))
    said: list[str] = []
    async with client(service, seconds=60, said=said) as found:
        await found.projects()
        following = found.follow(PROJECT_ID)
        waiting = asyncio.ensure_future(anext(following))
        while len(service.requests) < 4:
            await asyncio.sleep(0)
        await found.overview(PROJECT_ID, patient=False)
        assert said[1:] == ["the service answers again"]
        await waiting
        await following.aclose()
    assert len(said) == 2


async def test_a_project_that_is_gone_ends_its_stream() -> None:
    """Trying again would not bring it back."""
    service = Service(of_error(NotFound("There is no project.")))
    async with client(service) as found:
        with pytest.raises(NotFound):
            await anext(found.follow(PROJECT_ID))


async def test_a_stream_without_a_byte_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three beats are missing: nobody is there any more, though the connection stands."""

    class Deaf(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seconds = request.extensions["timeout"]["read"]
            assert seconds == api.STREAM_SECONDS
            raise httpx.ReadTimeout("")

    async with httpx.AsyncClient(transport=Deaf(), base_url="http://phoenix") as http:
        found = Client(http, place="there", patience_seconds=0.05)
        with pytest.raises(ServiceUnreachable, match="ReadTimeout"):
            await anext(found.follow(PROJECT_ID))


async def test_members_of_a_newer_service_are_left_out() -> None:
    """Also of what lies inside."""
    body = PROJECT.model_dump(mode="json") | {"colour": "red"}
    service = Service(JSONResponse(body, status_code=202))
    async with client(service) as found:
        assert await found.launch(Launch(requirement="x", model="m").checked()) == PROJECT


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (PlainTextResponse("welcome"), "is no Phoenix service (text/plain"),
        (JSONResponse({"hello": 1}), "a form that this version does not read: items: Field required"),
        (JSONResponse([]), "does not read"),
        (Response(b"{", media_type="application/json"), "does not read"),
    ],
)
async def test_what_cannot_be_read_is_said(answer: Response, said: str) -> None:
    """Another program may listen at the address."""
    async with client(Service(answer)) as found:
        with pytest.raises(ServiceFailed) as raised:
            await found.projects()
    assert said in raised.value.message


@pytest.mark.parametrize("wrong", ["", "xyz", "3f2a'", "../auth/me", "z" * 36, "-" * 36, "a" * 40])
async def test_what_is_no_id_is_asked_of_nobody(wrong: str) -> None:
    """It never becomes part of an address."""
    service = Service()
    async with client(service) as found:
        with pytest.raises(NotFound):
            await found.find(wrong)
    assert service.requests == []


async def test_a_list_is_followed_over_its_pages_as_far_as_it_is_wanted() -> None:
    """And no further: a page that nobody wants is not asked for."""

    def part(count: int, following: str | None) -> Response:
        listed = {"project": PROJECT.model_dump(mode="json"), "usage": {}, "run": run(PROJECT_ID)}
        return JSONResponse({"items": [listed] * count, "next": following})

    service = Service(part(200, "a+b"), part(200, "c"), part(200, "d"), part(3, None))
    async with client(service) as found:
        assert len(await found.projects(450)) == 450
        assert len(await found.projects(50)) == 3
    assert service.queries == ["limit=200", "limit=200&cursor=a%2Bb", "limit=200&cursor=c", "limit=50"]


async def test_several_projects_are_told_from_none() -> None:
    """Each with what to do."""
    listed = {"project": PROJECT.model_dump(mode="json"), "usage": {}, "run": run(PROJECT_ID)}
    service = Service(page(), JSONResponse({"items": [listed, listed], "next": None}))
    async with client(service) as found:
        with pytest.raises(NotFound, match="There is no project 3f"):
            await found.find("3f")
        with pytest.raises(NotFound, match="Several projects begin with 3f"):
            await found.find("3F ")


def run(project_id: UUID) -> dict[str, Any]:
    about = {"id": str(uuid4()), "project_id": str(project_id), "flow": "develop", "status": "pending"}
    return about | {"created_at": NOW.isoformat()}


async def test_a_cancelled_request_is_not_tried_again() -> None:
    """Ctrl-C ends it."""
    begun = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with httpx.AsyncClient(transport=InProcess(slow), base_url="http://phoenix") as http:
        waiting = asyncio.create_task(Client(http, place="there", patience_seconds=60).projects())
        await begun.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
