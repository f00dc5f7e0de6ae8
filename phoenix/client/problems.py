"""What a service answers when it refuses, as the error that it had itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from phoenix import errors
from phoenix.errors import (
    DomainInvalid,
    PayloadInvalid,
    PhoenixError,
    RateLimited,
    ServiceFailed,
    ServiceUnreachable,
    code_of,
)

PROBLEM = "application/problem+json"
AWAY = (502, 503, 504)
"""What stands before a service answers so while the service itself is away."""

BY_STATUS: Mapping[int, type[PhoenixError]] = {
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    412: errors.VersionConflict,
    422: errors.InputError,
    503: errors.DatabaseUnavailable,
}
"""For codes that this version does not know."""


def _walk(kind: type[PhoenixError]) -> Iterator[type[PhoenixError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _walk(child)


KINDS: Mapping[str, type[PhoenixError]] = {code_of(kind): kind for kind in _walk(PhoenixError)}


def error_of(answer: httpx.Response, place: str) -> PhoenixError:
    """Return the error that an answer stands for.

    Args:
        answer: A refusal, read whole.
        place: Where it comes from, for people.
    """
    problem = _problem(answer)
    if problem is None:
        if answer.status_code in AWAY:
            return ServiceUnreachable(f"{place} is away (HTTP {answer.status_code}).")
        return not_phoenix(place, f"HTTP {answer.status_code}")
    code, status = str(problem.get("code", "")), answer.status_code
    kind = KINDS.get(code) or BY_STATUS.get(status, ServiceFailed)
    message = str(problem.get("detail") or problem.get("title") or "")
    hint, field = str(problem.get("hint", "")), _field(problem.get("field"))
    pairs = [(_field(e.get("field")), str(e.get("message", ""))) for e in _entries(problem)]
    if status >= 500 and not problem.get("detail") and (request_id := problem.get("request_id")):
        hint = hint or f"The log of {place} has more, under request id {request_id}."
    if kind is DomainInvalid:
        return DomainInvalid(pairs or [(field or "value", message)])
    if kind is PayloadInvalid and pairs:
        said = "; ".join(f"{name}: {text}" for name, text in pairs)
        return PayloadInvalid(said, problems=tuple(pairs))
    if kind is RateLimited:
        return RateLimited(message, after_seconds=after(answer), hint=hint, field=field)
    return kind(message, hint=hint, field=field)


def not_phoenix(place: str, what: str) -> ServiceFailed:
    """Return the error of an answer that no service of Phoenix gives."""
    return ServiceFailed(
        f"What answers at {place} is no Phoenix service ({what}).", hint="Is the address right?"
    )


def after(answer: httpx.Response) -> float:
    """Return for how many seconds an answer asks to wait."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() and len(text) < 6 else 1.0


def _problem(answer: httpx.Response) -> dict[str, Any] | None:
    if not answer.headers.get("Content-Type", "").startswith(PROBLEM):
        return None
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _entries(problem: dict[str, Any]) -> list[dict[str, Any]]:
    found = problem.get("errors")
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _field(name: object) -> str:
    """Return a field's name as somebody knows it who did not write the request."""
    return str(name or "").removeprefix("body.").removeprefix("query.")
