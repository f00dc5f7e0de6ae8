"""What Google's API says of an error: its client keeps it in a body, LangChain hides that behind a cause."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
BAD_KEY = "API_KEY_INVALID"


@dataclass(frozen=True)
class Said:
    """An error as the API gave it."""

    status: int
    message: str
    retry_seconds: float | None = None
    """From its RetryInfo; the API sends no Retry-After."""
    began: bool = False
    """The answer had begun well before it."""


def said_by_google(error: BaseException | None) -> Said | None:
    """Return what Google's API says in an error, or in what caused it; None where it is none of Google's.

    A key that is not valid is answered with 400: it becomes the 401 that it means.
    """
    while error is not None and not _is_googles(error):
        error = error.__cause__
    if error is None:
        return None
    found: Any = error
    body = found.details if isinstance(found.details, Mapping) else {}
    inner = body.get("error", body)
    inner = inner if isinstance(inner, Mapping) else {}
    details = [d for d in inner.get("details") or () if isinstance(d, Mapping)]
    is_key = any(d.get("reason") == BAD_KEY for d in details)
    waits = [SECONDS.fullmatch(str(d.get("retryDelay"))) for d in details if d.get("retryDelay")]
    retry = next((float(match[1]) for match in waits if match), None)
    http = getattr(found.response, "status_code", None)
    return Said(
        status=401 if is_key else found.code,
        message=str(found.message or found),
        retry_seconds=retry,
        began=isinstance(http, int) and http < 400,
    )


def _is_googles(error: BaseException) -> bool:
    is_api_error = any(
        kind.__name__ == "APIError" and kind.__module__.startswith("google.") for kind in type(error).__mro__
    )
    return is_api_error and isinstance(getattr(error, "code", None), int)
