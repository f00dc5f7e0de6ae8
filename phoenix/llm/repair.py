"""Mend almost-JSON without a model: what the text does not say is never added.

A wrong repair is worse than none: it would be taken for the answer.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from phoenix.llm.lenient import Budget, Reader, Unclear

THINKING = re.compile(r"<(think|thinking|reasoning)>")
ESCAPED = re.compile(r"\{\s*+\\+\"")
MEMBER = re.compile(r"\s*+\"[^\"\\\n]{1,200}+\"\s*+:")
MAX_CHARS = 2_000_000
MAX_MENDED_CHARS = 400_000
"""The longest text that is mended: more than the longest answers that models give."""

M = TypeVar("M", bound=BaseModel)


def mend_json(text: str) -> dict[str, Any] | None:
    """Return the one JSON object that a text holds; None when that is not certain.

    What stands around it is passed over: fences, prose, what a model thought. Inside it `lenient.Reader` says
    what is mended. Ends in time that grows with the text's length only.
    """
    if len(text) > MAX_CHARS:
        return None
    stripped = _answer(text)
    found = _load(stripped)
    if found is not None:
        return found
    inner = _unquoted(stripped)
    if inner is not None:
        return _load(inner) or _only(inner)
    if MEMBER.match(stripped):  # its brace was said for the model
        stripped = "{" + stripped
    return _only(stripped)


def _answer(text: str) -> str:
    """Return a text without what the model thought before it answered."""
    text = text.strip().lstrip("\ufeff").lstrip()
    found = THINKING.match(text)
    if found is None:
        return text
    end = f"</{found[1]}>"
    return text.partition(end)[2].strip() if end in text else text


def _unquoted(text: str) -> str | None:
    """Return the text that was written as a JSON string, or escaped like one; None when it was not."""
    if not text.startswith('"') and not ESCAPED.match(text):
        return None
    try:
        inner = json.loads(text if text.startswith('"') else f'"{text}"', strict=False)
    except ValueError:
        return None
    return inner.strip() if isinstance(inner, str) else None


def _only(text: str) -> dict[str, Any] | None:
    """Return the one object in a text: the same one twice is one, two different ones are none."""
    if len(text) > MAX_MENDED_CHARS:
        return None
    found: dict[str, Any] | None = None
    budget = Budget(text)
    at = text.find("{")
    while at >= 0:
        reader = Reader(text, at, budget)
        try:
            value = _load(reader.read_object())
        except Unclear as unclear:
            if unclear.is_object:  # what lies in it is not the answer
                return None
            at = text.find("{", at + 1)
            continue
        if value is None or (value and found and value != found):
            return None
        found = value or found
        at = text.find("{", reader.at)
    return found or None


def _load(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text, strict=False, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_number(_: str) -> None:
    """Stand for NaN and the infinities, which JSON does not have."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def fit(data: dict[str, Any], schema: type[M]) -> tuple[M, bool]:
    """Return the data as a model, and whether it had to be changed to fit.

    An envelope of one key is opened, and null stands for a default. Unknown fields stay an error: one
    may be the misspelt name of a field that would then silently be empty.

    Raises:
        ValidationError: it does not fit.
    """
    inner = _opened(data, schema)
    try:
        return schema.model_validate(inner), inner is not data
    except ValidationError as error:
        return schema.model_validate(_without_nulls(inner, error)), True


def _opened(data: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Return what is inside an envelope such as {"SpecDraft": {...}}."""
    if len(data) == 1:
        key, value = next(iter(data.items()))
        if key not in schema.model_fields and isinstance(value, dict):
            return value
    return data


def _without_nulls(data: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """Return the data without the nulls that an error names."""
    trimmed: dict[str, Any] = json.loads(json.dumps(data))
    for problem in error.errors():
        if problem["input"] is None and problem["type"] not in ("missing", "extra_forbidden"):
            _remove(trimmed, problem["loc"])
    return trimmed


def _remove(data: Any, where: tuple[int | str, ...]) -> None:
    for part in where[:-1]:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict) and where:
        data.pop(where[-1], None)
