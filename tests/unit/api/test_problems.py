"""Every error of Phoenix has a status, and reads as problem+json that says what to do."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from pydantic import Field

from phoenix import errors
from phoenix.api.errors import STATUS, install, of_error, status_of
from phoenix.api.middleware import BodyLimits, RequestContext, is_deeper
from phoenix.api.payloads import Payload
from phoenix.errors import (
    DatabaseUnavailable,
    DecisionConflict,
    DomainInvalid,
    NotFound,
    PhoenixError,
    RateLimited,
    Unauthenticated,
)
from tests.unit.test_errors import CLASSES

MAX_BYTES = 1000


class Thing(Payload):
    """A body."""

    title: str = Field(min_length=1)
    count: int = 1


def application(seconds: float = 5.0) -> RequestContext:
    """Return a small application with all that surrounds the real one."""
    app = FastAPI()
    install(app)

    @app.post("/things")
    async def make(thing: Thing) -> dict[str, str]:
        if thing.title == "crash":
            raise ZeroDivisionError("the secret is 42")
        if thing.title == "gone":
            raise NotFound("There is no thing.", hint="Make one.")
        return {"title": thing.title}

    return RequestContext(BodyLimits(app, max_bytes=MAX_BYTES, seconds=seconds))


def client(seconds: float = 5.0) -> AsyncClient:
    return AsyncClient(
        transport=ASGITransport(application(seconds), raise_app_exceptions=False), base_url="http://phoenix"
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_below_its_family(kind: type[PhoenixError]) -> None:
    """No class falls through to the root's 500 but those that mean it."""
    error = kind([("a", "b")]) if kind is DomainInvalid else kind("x")  # type: ignore[arg-type]
    nearest = next(c for c in kind.__mro__ if c in STATUS)
    assert nearest is not PhoenixError or kind is PhoenixError
    assert status_of(error) == STATUS[nearest]


def test_conflicts_and_inputs_are_told_apart() -> None:
    """What somebody else did is 409, what cannot be used 422, what is not there 404."""
    assert status_of(DecisionConflict()) == 409
    assert status_of(DomainInvalid([])) == 422
    assert status_of(NotFound()) == 404
    assert status_of(Unauthenticated()) == 401
    assert status_of(errors.RunSuperseded()) == 409


def test_waiting_times_are_told() -> None:
    """Whoever is too fast, or comes while the database is away, hears when to come again."""
    assert of_error(RateLimited(after_seconds=2.2)).headers["retry-after"] == "3"
    assert of_error(DatabaseUnavailable()).headers["retry-after"] == "5"
    assert of_error(Unauthenticated()).headers["www-authenticate"] == "Bearer"


def test_an_inner_error_tells_no_detail() -> None:
    """What broke inside is for the log."""
    body = json.loads(bytes(of_error(errors.AgentGaveUp("the secret is 42")).body))
    assert "42" not in json.dumps(body)
    assert body["code"] == "agent_gave_up"


async def test_an_unforeseen_error_is_a_plain_500() -> None:
    """No stack trace, no message; the request's id leads to the log."""
    async with client() as http:
        answer = await http.post("/things", json={"title": "crash"}, headers={"X-Request-ID": "abc-1"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.json()["request_id"] == "abc-1"
    assert "42" not in answer.text
    assert "ZeroDivision" not in answer.text


async def test_a_foreign_request_id_is_not_taken() -> None:
    """An id that could break a log line is replaced."""
    async with client() as http:
        answer = await http.post("/things", json={"title": "x"}, headers={"X-Request-ID": "a b{}" * 50})
    assert answer.headers["x-request-id"] != "a b{}" * 50
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_wrong_body_names_its_fields() -> None:
    """Unknown members and other types are refused, each by its path."""
    async with client() as http:
        answer = await http.post("/things", json={"title": "x", "count": "1", "admin": True})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert {e["field"] for e in answer.json()["errors"]} == {"body.count", "body.admin"}


async def test_an_expected_error_says_what_to_do() -> None:
    """Code, detail and hint reach the client."""
    async with client() as http:
        body = (await http.post("/things", json={"title": "gone"})).json()
    assert (body["code"], body["status"], body["hint"]) == ("not_found", 404, "Make one.")


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_large_body_is_refused_before_it_is_read(is_chunked: bool) -> None:
    """Declared or not, what is too large is 413."""
    sent = 0

    async def chunks():  # type: ignore[no-untyped-def]
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 20_000

    async with client() as http:
        if is_chunked:
            answer = await http.post("/things", content=chunks())
            assert sent < 1000
        else:
            answer = await http.post("/things", content=b"x" * (MAX_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json()["code"] == "payload_too_large"


async def test_a_deep_body_is_refused() -> None:
    """Nesting that would exhaust a parser is 422."""
    async with client() as http:
        answer = await http.post("/things", content=b"[" * 400)
    assert answer.status_code == 422
    assert answer.json()["field"] == "body"


def test_depth_counts_only_what_nests() -> None:
    """Brackets within strings, and those beside each other, are no depth."""
    assert not is_deeper(b'{"a": "' + b"[" * 100 + b'"}', 64)
    assert not is_deeper(b"[" + b"[]," * 100 + b"0]", 64)
    assert not is_deeper(b'"\\"' + b"[" * 65 + b'"', 64)
    assert is_deeper(b"[" * 65, 64)
    assert is_deeper(b'{"a":' * 65, 64)


async def test_a_slow_body_is_given_up() -> None:
    """A client that drips holds nobody up for ever."""
    import asyncio

    async def drip():  # type: ignore[no-untyped-def]
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async with client(seconds=0.2) as http:
        answer = await http.post("/things", content=drip())
    assert answer.status_code == 422
    assert "did not arrive" in answer.json()["detail"]


async def test_text_that_cannot_be_stored_is_cleaned() -> None:
    """A NUL in a body never reaches PostgreSQL."""
    async with client() as http:
        answer = await http.post("/things", json={"title": "a\x00b"})
    assert answer.json() == {"title": "a\ufffdb"}
