"""An error of the service is the same error at its client."""

from __future__ import annotations

import httpx
import pytest

from phoenix.api.errors import internal, of_error, status_of
from phoenix.client.problems import error_of
from phoenix.errors import (
    Conflict,
    DomainInvalid,
    NotFound,
    PayloadInvalid,
    PhoenixError,
    RateLimited,
    ServiceFailed,
    ServiceUnreachable,
)
from tests.unit.test_errors import CLASSES

PLACE = "http://phoenix.example.org"


def carried(error: PhoenixError) -> PhoenixError:
    """Return an error as it arrives at a client."""
    answer = of_error(error, "request-1")
    return error_of(
        httpx.Response(answer.status_code, headers=dict(answer.headers), content=bytes(answer.body)), PLACE
    )


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_itself(kind: type[PhoenixError]) -> None:
    """Class, message, hint and field; of what broke inside, where to look."""
    if kind is DomainInvalid:
        sent: PhoenixError = DomainInvalid([("spec.title", "too long"), ("x", "y")])
    else:
        sent = kind("It went wrong.", hint="Do this.", field="a.b")
    found = carried(sent)
    assert type(found) is kind
    assert (found.hint, found.field) == (sent.hint, sent.field)
    if status_of(sent) == 500:
        assert found.message == (kind.__doc__ or "").splitlines()[0]
    else:
        assert found.message == sent.message


def test_problems_of_fields_are_named_without_their_place_in_the_request() -> None:
    """Whoever typed a command has written no body."""
    problems = (("body.budget_usd", "Input should be less"), ("query.limit", "too large"))
    found = carried(PayloadInvalid("Not so.", problems=problems, field="body.budget_usd"))
    assert found.message == "budget_usd: Input should be less; limit: too large"
    bare = carried(PayloadInvalid("No URL.", field="body.repository", hint="Give one."))
    assert (bare.field, bare.message, bare.hint) == ("repository", "No URL.", "Give one.")
    (pair,) = carried(DomainInvalid([("title", "too long")])).problems  # type: ignore[attr-defined]
    assert pair == ("title", "too long")


def test_how_long_to_wait_is_told() -> None:
    """In whole seconds, rounded up."""
    found = carried(RateLimited("Slow.", after_seconds=2.2))
    assert isinstance(found, RateLimited)
    assert found.after_seconds == 3.0


def test_what_broke_inside_is_found_by_its_request() -> None:
    """The message is in the service's log and nowhere else."""
    answer = internal("request-7")
    crash = error_of(httpx.Response(500, headers=dict(answer.headers), content=bytes(answer.body)), PLACE)
    assert type(crash) is ServiceFailed
    assert "Something went wrong" in crash.message
    git = carried(CLASSES[[c.__name__ for c in CLASSES].index("GitFailed")]("secret"))
    assert "secret" not in str(git)
    assert "request-1" in git.hint
    assert PLACE in git.hint


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (409, Conflict), (418, ServiceFailed), (500, ServiceFailed)]
)
def test_a_code_of_another_version_is_told_by_its_status(status: int, kind: type[PhoenixError]) -> None:
    """A newer service may have errors that this client has no class for."""
    body = {"code": "brand_new", "detail": "So it is.", "hint": "Wait.", "errors": "none", "status": status}
    problem = {"Content-Type": "application/problem+json"}
    found = error_of(httpx.Response(status, headers=problem, json=body), PLACE)
    assert (type(found), found.message, found.hint) == (kind, "So it is.", "Wait.")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (httpx.Response(404, text="<html>"), ServiceFailed, "is no Phoenix service (HTTP 404)"),
        (httpx.Response(301, headers={"Location": "https://elsewhere"}), ServiceFailed, "HTTP 301"),
        (httpx.Response(502, text="Bad gateway"), ServiceUnreachable, "is away (HTTP 502)"),
        (
            httpx.Response(400, headers={"Content-Type": "application/problem+json"}, text="{"),
            ServiceFailed,
            "HTTP 400",
        ),
        (
            httpx.Response(400, headers={"Content-Type": "application/problem+json"}, text="[]"),
            ServiceFailed,
            "HTTP 400",
        ),
    ],
)
def test_what_is_no_answer_of_phoenix_is_said(
    answer: httpx.Response, kind: type[PhoenixError], said: str
) -> None:
    """With the address, so that it can be looked at."""
    found = error_of(answer, PLACE)
    assert type(found) is kind
    assert said in found.message
    assert PLACE in found.message
