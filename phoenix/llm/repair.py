"""Mend almost-JSON without a model: what the text does not say is never added.

Each tier is guarded, since a wrong repair is worse than none: it would be taken for the answer.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
MAX_MISSING_CLOSERS = 3
MAX_CHARS = 2_000_000

M = TypeVar("M", bound=BaseModel)


def mend_json(text: str) -> dict[str, Any] | None:
    """Return the one JSON object that a text holds; None when that is not certain.

    Takes off fences and prose, allows raw line breaks in strings, drops trailing commas, adds up to
    three closing brackets after a complete value, and lets json-repair mend quotes and separators
    as long as every letter and digit stays as it was.
    """
    if len(text) > MAX_CHARS:
        return None
    for candidate in _candidates(text):
        found = _load(candidate)
        if found is not None:
            return found
    for candidate in _candidates(text):
        found = _load(_without_trailing_commas(candidate)) or _load(_closed(candidate)) or _loosely(candidate)
        if found is not None:
            return found
    return None


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


def _candidates(text: str) -> list[str]:
    """Return texts that may be the object, likeliest first: whole, fenced, between braces, to the end."""
    stripped = text.strip().lstrip("\ufeff")
    found = [stripped, *FENCE.findall(stripped)] if not stripped.startswith("{") else [stripped]
    start, end = stripped.find("{"), stripped.rfind("}")
    if start >= 0:
        if end > start:
            found.append(stripped[start : end + 1])
        found.append(stripped[start:])
    return list(dict.fromkeys(c.strip() for c in found if "{" in c))


def _load(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        value = json.loads(text, strict=False, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _outside_strings(text: str) -> tuple[list[tuple[int, str]], bool]:
    """Return brackets and commas outside strings with their places, and whether a string stays open."""
    marks: list[tuple[int, str]] = []
    in_string = escaped = False
    for place, char in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "{}[],":
            marks.append((place, char))
    return marks, in_string


def _without_trailing_commas(text: str) -> str:
    marks, _ = _outside_strings(text)
    drop = {
        place
        for (place, char), (after, following) in pairwise(marks)
        if char == "," and following in "}]" and not text[place + 1 : after].strip()
    }
    return "".join(c for place, c in enumerate(text) if place not in drop) if drop else text


def _closed(text: str) -> str | None:
    """Return the text with its missing closers, when it ends after a complete string, list or object."""
    text = _without_trailing_commas(text).rstrip()
    marks, open_string = _outside_strings(text)
    if open_string or not text.endswith(('"', "}", "]")):
        return None
    stack: list[str] = []
    for _, char in marks:
        if char in "{[":
            stack.append("}" if char == "{" else "]")
        elif char in "}]" and (not stack or stack.pop() != char):
            return None
    return text + "".join(reversed(stack)) if 0 < len(stack) <= MAX_MISSING_CLOSERS else None


def _loosely(text: str) -> dict[str, Any] | None:
    """Let json-repair mend quotes and commas; take its word only when all else stayed as it was."""
    marks, open_string = _outside_strings(text)
    if open_string or not marks or marks[-1] != (len(text) - 1, "}"):
        return None
    from json_repair import repair_json

    try:
        value = repair_json(text, return_objects=True, skip_json_loads=True)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    result = json.dumps(value, ensure_ascii=False)
    invented = result.count('""') > text.count('""') + text.count("''")
    return value if _said(text) == _said(result) and not invented else None


def _said(text: str) -> str:
    """Return all of a text but quotes, commas and white space; escapes and spelling of literals aside."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
    text = re.sub(r'\\[bfnrt"\\/]', " ", text)
    return re.sub(r"[\s\"'`,\\]", "", text).lower().replace("none", "null")


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
