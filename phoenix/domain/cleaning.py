"""What models and tools answer, made fit for checkpoints and for PostgreSQL's TEXT and JSONB.

PostgreSQL refuses NUL and lone surrogates, JSON has no NaN, msgpack no integers over 64 bits, and all of
them give up on deep nesting. Clean values where they enter; nothing further in has to expect them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

MAX_DEPTH = 100
"""Lists and objects inside each other; msgpack and pydantic both stop near 250."""

REPLACEMENT = "\ufffd"
TOO_DEEP = "[nested too deeply]"

_UNFIT = re.compile("[\x00\ud800-\udfff]")
_DECIMAL_BITS = 10_000
"""Longer integers are written in hexadecimal: Python refuses to write them in decimal."""


def clean_text(text: str) -> str:
    """Return the text with each NUL and lone surrogate replaced by U+FFFD."""
    return _UNFIT.sub(REPLACEMENT, text)


def clean_json(value: Any, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return an equal JSON value that every store can hold, or the nearest to it.

    NaN and the infinities become None, integers over 64 bits their digits as text, what lies deeper
    than `max_depth` a note that says so, and what is not JSON its text. A clean value comes back equal.
    """
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return _clean_scalar(value)
    if max_depth <= 0:
        return TOO_DEEP
    if isinstance(value, dict):
        return {clean_text(str(k)): clean_json(v, max_depth=max_depth - 1) for k, v in value.items()}
    return [clean_json(item, max_depth=max_depth - 1) for item in value]


_PLAIN = (
    orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_STRICT_INTEGER
)
"""What is no plain JSON, or an integer that may be too long, is refused, and then cleaned."""


def clean_dump(value: Any) -> bytes:
    """Return a value as JSON, clean as `clean_json` makes it, which most values are already."""
    try:
        dumped = orjson.dumps(value, option=_PLAIN)
    except TypeError:
        return orjson.dumps(clean_json(value))
    if b"\\u0000" in dumped or dumped.count(b"[") + dumped.count(b"{") > MAX_DEPTH:
        return orjson.dumps(clean_json(value))
    return dumped


def _clean_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return _clean_int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        value = value.decode(errors="replace")
    return clean_text(str(value))


def _clean_int(value: int) -> int | str:
    if -(2**63) <= value < 2**63:
        return int(value)
    return str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)
