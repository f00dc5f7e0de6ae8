"""What a provider's client raises, translated once into the error tree."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from langchain_core import exceptions as lc
from langchain_core.messages.ai import UsageMetadata

from phoenix.errors import (
    InputError,
    ModelError,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    ModelUnknown,
)
from phoenix.llm.google import said_by_google
from phoenix.telemetry.redaction import MASK, mask_line
from phoenix.telemetry.shapes import LIKELY

MAX_MESSAGE_CHARS = 300
OVERFLOW_WORDS = (
    "context_length",
    "context window",
    "maximum context",
    "prompt is too long",
    "too many tokens",
)
MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")
"""Headers of OpenAI and of Azure beside Retry-After, and more exact than it."""
WITH_UNIT = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s)")
POLICY_WORDS = ("content_policy", "content_filter", "content management policy", "safety system")

STATUS_OF: tuple[tuple[type[Exception], int], ...] = (
    (lc.ModelAuthenticationError, 401),
    (lc.ModelPermissionDeniedError, 403),
    (lc.ModelNotFoundError, 404),
    (lc.ModelRateLimitError, 429),
    (lc.ModelInvalidRequestError, 400),
)
"""LangChain's neutral errors, for providers whose own carry no HTTP status."""


STATUS_WITHIN = (
    ("overloaded_error", 529),
    ("rate_limit_error", 429),
    ("invalid_request_error", 400),
    ("authentication_error", 401),
    ("permission_error", 403),
    ("api_error", 500),
    ("timeout_error", 504),
)
"""What Anthropic calls the errors of each status, where they come within a stream."""


@dataclass(frozen=True)
class Billed:
    """A call that brought no whole answer, and that the provider may bill all the same."""

    usage: UsageMetadata | None = None
    """What it used, where the provider had said so before the answer broke off."""
    cost_usd: Decimal | None = None
    """What that costs; None when its price is unknown."""


class CallFailed(Exception):
    """One attempt failed, and what that says of further ones.

    Args:
        error: What the caller sees when no attempt succeeds.
        again: The same model may answer another attempt.
        after: Seconds to wait before it, from Retry-After.
        elsewhere: Another model may answer; without it as `again`.
        sick: The provider itself is broken or unreachable; counts for its circuit breaker.
        too_long: The conversation does not fit the model's context.
        billed: The provider may bill it all the same; None where it refused it, or never saw it.
    """

    def __init__(
        self,
        error: ModelError | InputError,
        *,
        again: bool = False,
        after: float | None = None,
        elsewhere: bool | None = None,
        sick: bool = False,
        too_long: bool = False,
        billed: Billed | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.again = again
        self.after = after
        self.elsewhere = again if elsewhere is None else elsewhere
        self.sick = sick
        self.too_long = too_long
        self.billed = billed


class LeftAlone(CallFailed):
    """The call was not made: its model failed again and again, and is not asked for a while."""

    def __init__(self, model: str, wait_seconds: float) -> None:
        error = ModelUnavailable(
            f"{model} failed again and again, and is left alone for now.",
            hint=f"It is tried again in {wait_seconds:.0f} s.",
        )
        super().__init__(error, elsewhere=True)


def translate(error: Exception, model: str, *, secret: str = "") -> CallFailed:
    """Return a client's error as the failure of a call; the secret never reaches its text."""
    status = getattr(error, "status_code", None)
    text = _text(error, secret)
    google = said_by_google(error)
    if google is not None:
        status, text = google.status, _cleaned(google.message, secret)
    if isinstance(error, lc.ContextOverflowError) or _says(text, OVERFLOW_WORDS):
        return CallFailed(
            ModelError(
                f"The conversation is too long for {model}.", hint="Use a model with a larger context."
            ),
            elsewhere=True,
            too_long=True,
        )
    if _says(text, POLICY_WORDS) or type(error).__name__ == "ContentFilterFinishReasonError":
        return CallFailed(refusal(model, text))
    if isinstance(status, int) and status < 400:
        # The stream had begun well; an event within it says how it went on.
        status = next((code for kind, code in STATUS_WITHIN if kind in text), None)
        failure = _by_kind(error, model, text) if status is None else _by_status(status, model, text, error)
        failure.billed = Billed()
        return failure
    if isinstance(status, int):
        failure = _by_status(status, model, text, error)
        if google is not None:
            failure.after = google.retry_seconds
            failure.billed = Billed() if google.began else None
        return failure
    return _by_kind(error, model, text)


def refusal(model: str, text: str) -> ModelError:
    """Return the error for content that the model or its provider will not handle."""
    return ModelError(f"{model} declines to answer: {text}", hint="Reword the requirement.")


def cut_off(model: str) -> CallFailed:
    """Return the failure of an answer that ended at the output limit."""
    return CallFailed(
        ModelUnavailable(
            f"{model} stopped in the middle of its answer.", hint="Use a model with longer output."
        ),
        again=True,
    )


def _by_status(status: int, model: str, text: str, error: Exception) -> CallFailed:
    if status in (401, 403):
        hint = "Check the key, and that it may use this model."
        return CallFailed(ModelRefusedKey(f"{model}: the provider refuses the key: {text}", hint=hint))
    if status == 404:
        hint = "Check the model's name and the base URL."
        return CallFailed(
            ModelUnknown(f"The provider does not know {model}: {text}", hint=hint, field="model"),
            elsewhere=True,
        )
    if status == 429:
        exhausted = "insufficient_quota" in text or getattr(error, "code", None) == "insufficient_quota"
        hint = "The account has no quota left." if exhausted else "Try again later, or use another model."
        limited = ModelRateLimited(f"{model}: the provider asks for fewer requests: {text}", hint=hint)
        return CallFailed(limited, again=not exhausted, after=_retry_after(error), elsewhere=True)
    if status in (408, 409, 425) or status >= 500:
        broken = ModelUnavailable(f"{model}: the provider failed ({status}): {text}", hint="Try again later.")
        return CallFailed(broken, again=True, after=_retry_after(error), sick=status != 409)
    return CallFailed(ModelRejected(f"{model}: the provider refuses the request ({status}): {text}"))


def _by_kind(error: Exception, model: str, text: str) -> CallFailed:
    """Translate an error without HTTP status, by LangChain's neutral kinds or by its name."""
    kind = type(error).__name__
    status = next((s for neutral, s in STATUS_OF if isinstance(error, neutral)), None)
    if status is not None:
        return _by_status(status, model, text, error)
    if kind in ("SubjectTokenProviderError", "MutuallyExclusiveAuthError"):
        return _by_status(401, model, text, error)
    if "Timeout" in kind or isinstance(error, TimeoutError):
        late = ModelTimeout(f"{model} did not answer in time.")
        return CallFailed(late, again=True, sick=True, billed=Billed())
    if kind == "LengthFinishReasonError":
        return cut_off(model)
    is_unreached = "Connect" in kind
    hint = "Check the network and the base URL." if is_unreached else ""
    unusable = ModelUnavailable(f"{model}: no usable answer: {text}", hint=hint)
    return CallFailed(unusable, again=True, sick=True, billed=None if is_unreached else Billed())


def broken_off(model: str, why: object, billed: Billed | None = None) -> CallFailed:
    """Return the failure of an answer that came in pieces, and not whole."""
    broken = ModelUnavailable(f"{model}: the answer broke off: {why}.")
    return CallFailed(broken, again=True, sick=True, billed=billed or Billed())


def fell_silent(model: str, why: object) -> CallFailed:
    """Return the failure of an answer that stopped coming."""
    silent = ModelTimeout(f"{model} fell silent: {why}.")
    return CallFailed(silent, again=True, sick=True, billed=Billed())


def _says(text: str, words: tuple[str, ...]) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in words)


def _text(error: Exception, secret: str) -> str:
    return _cleaned(str(getattr(error, "message", "") or error or type(error).__name__), secret)


def _cleaned(said: str, secret: str) -> str:
    """Return a provider's words without secrets, on one line, and no longer than is read."""
    text = " ".join(said.split())
    if secret:
        text = text.replace(secret, MASK)
    text = LIKELY.sub(MASK, mask_line(text))
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _retry_after(error: Exception) -> float | None:
    """Return the seconds that Retry-After asks for: a number, one with its unit, or an HTTP date."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None) or {}
    for name in MILLISECONDS:
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or not value:
        return seconds
    if with_unit := WITH_UNIT.fullmatch(str(value).strip()):
        return float(with_unit[1]) / (1000 if with_unit[2] == "ms" else 1)
    try:
        return max(0.0, parsedate_to_datetime(str(value)).timestamp() - time.time())
    except ValueError:
        return None


def _number(value: object) -> float | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
