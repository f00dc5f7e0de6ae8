"""No error of a client reaches the rooms above as it is."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

import httpx
import httpx2
import openai
import pytest
from langchain_core import exceptions as neutral
from langchain_openai.chat_models import base as openai_chat

from phoenix.errors import (
    InputError,
    ModelError,
    ModelRateLimited,
    ModelRefusedKey,
    ModelTimeout,
    ModelUnavailable,
    ModelUnknown,
)
from phoenix.llm.failures import translate
from phoenix.llm.providers import ProviderModel

CLIENTS = ("openai", "langchain_core", "langchain_openai", "httpx", "httpx2")


def below(kind: type[Exception]) -> set[type[Exception]]:
    """Return an error class and all below it that the clients define, whatever else is imported."""
    known = {kind} if kind.__module__.partition(".")[0] in CLIENTS else set()
    return known.union(*(below(k) for k in kind.__subclasses__()))


def make(kind: type[Exception]) -> Exception:
    """Return an instance without running its constructor."""
    error = kind.__new__(kind)
    error.args = ("it broke",)
    return error


STATUS = {
    openai.AuthenticationError: ModelRefusedKey,
    openai.PermissionDeniedError: ModelRefusedKey,
    openai.NotFoundError: ModelUnknown,
    openai.RateLimitError: ModelRateLimited,
    openai.InternalServerError: ModelUnavailable,
    openai.ConflictError: ModelUnavailable,
    openai.APIConnectionError: ModelUnavailable,
    openai.APITimeoutError: ModelTimeout,
}


@pytest.mark.parametrize(
    "kind",
    sorted(below(openai.OpenAIError) | below(neutral.ModelError), key=lambda k: k.__qualname__),
    ids=lambda k: k.__qualname__,
)
def test_every_client_error_is_caught_and_translated(kind: type[Exception], provider: ProviderModel) -> None:
    """Each error class of openai and LangChain is one the backend catches, and becomes one of the tree."""
    assert issubclass(kind, provider._failures)
    failure = translate(make(kind), "openai:test")
    assert isinstance(failure.error, ModelError | InputError)
    assert "openai:test" in failure.error.message


@pytest.mark.parametrize("kind", sorted(below(httpx.HTTPError) | below(httpx2.HTTPError), key=repr), ids=repr)
def test_every_transport_error_is_tried_again(kind: type[Exception], provider: ProviderModel) -> None:
    """A broken connection says nothing about the next one."""
    failure = translate(make(kind), "openai:test")
    assert failure.again
    assert isinstance(failure.error, ModelUnavailable | ModelTimeout)


@pytest.mark.parametrize(("kind", "expected"), STATUS.items(), ids=[k.__name__ for k in STATUS])
def test_kinds_become_what_they_mean(kind: Any, expected: type[Exception]) -> None:
    """The status or the kind decides."""
    request = httpx2.Request("POST", "http://x")
    codes = {
        "AuthenticationError": 401,
        "PermissionDeniedError": 403,
        "NotFoundError": 404,
        "RateLimitError": 429,
    }
    codes |= {"InternalServerError": 500, "ConflictError": 409}
    if kind.__name__ in codes:
        error = kind("no", response=httpx2.Response(codes[kind.__name__], request=request), body=None)
    else:
        error = kind(request=request)
    assert type(translate(error, "openai:test").error) is expected


def test_langchain_names_openai_errors_by_its_own_kinds() -> None:
    """The neutral kinds lead to the same errors, so other providers' clients need no table."""
    assert isinstance(translate(make(neutral.ModelAuthenticationError), "x:y").error, ModelRefusedKey)
    assert isinstance(translate(make(neutral.ModelRateLimitError), "x:y").error, ModelRateLimited)
    assert issubclass(openai_chat.OpenAIContextOverflowError, neutral.ContextOverflowError)
    assert not translate(make(openai_chat.OpenAIContextOverflowError), "x:y").again


def test_what_looks_like_a_key_is_not_repeated() -> None:
    """Providers quote keys that Phoenix does not know, since their clients read them themselves."""
    failure = translate(ValueError("bad key sk-ant-REDACTED0123456789 given"), "x:y")
    assert "0123456789" not in str(failure.error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "40", "retry-after": "1"}, 0.04),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after": "1.5 s"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates; nonsense is ignored."""
    response = httpx2.Response(429, headers=headers, request=httpx2.Request("POST", "http://x"))
    failure = translate(openai.RateLimitError("slow", response=response, body=None), "openai:test")
    assert failure.after == seconds


def test_a_date_to_come_is_waited_for() -> None:
    """As long as it is away."""
    headers = {"retry-after": formatdate(time.time() + 90, usegmt=True)}
    response = httpx2.Response(503, headers=headers, request=httpx2.Request("POST", "http://x"))
    failure = translate(openai.InternalServerError("slow", response=response, body=None), "openai:test")
    assert failure.after is not None
    assert 80 < failure.after <= 90


@pytest.mark.parametrize(
    ("status", "text", "again", "elsewhere", "sick"),
    [
        (400, "unknown parameter", False, False, False),
        (400, "maximum context length is 8192", False, True, False),
        (400, "content_policy", False, False, False),
        (401, "bad key", False, False, False),
        (403, "not allowed", False, False, False),
        (404, "no such model", False, True, False),
        (408, "timeout", True, True, True),
        (409, "conflict", True, True, False),
        (429, "slow down", True, True, False),
        (429, "insufficient_quota", False, True, False),
        (500, "broke", True, True, True),
        (502, "bad gateway", True, True, True),
        (503, "away", True, True, True),
        (529, "overloaded", True, True, True),
    ],
)
def test_a_failure_says_what_to_do(status: int, text: str, again: bool, elsewhere: bool, sick: bool) -> None:
    """Whether the same model may try again, another may answer, and the provider is broken."""
    response = httpx2.Response(status, request=httpx2.Request("POST", "http://x"))
    failure = translate(openai.APIStatusError(text, response=response, body=None), "openai:test")
    assert (failure.again, failure.elsewhere, failure.sick) == (again, elsewhere, sick)
    assert failure.too_long == ("maximum context" in text)
