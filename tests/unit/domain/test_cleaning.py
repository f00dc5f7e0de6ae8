"""Cleaning keeps what fits and says what it replaced."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.domain.cleaning import MAX_DEPTH, TOO_DEEP, clean_dump, clean_json, clean_text

plain_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=15,
)


@given(plain_json)
def test_a_clean_value_is_kept(value: Any) -> None:
    """What every store can hold comes back equal, and so does its text."""
    assert clean_json(value) == value
    assert json.loads(clean_dump(value)) == value


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud83d", "\ufffd"),
        ("😀", "😀"),
        (math.nan, None),
        (-math.inf, None),
        (2**63 - 1, 2**63 - 1),
        (2**63, "9223372036854775808"),
        (-(2**63) - 1, "-9223372036854775809"),
        (True, True),
        ((1, 2), [1, 2]),
        ({1: "a"}, {"1": "a"}),
        (b"a\xff\x00", "a\ufffd\ufffd"),
        ({"k\x00": [math.inf]}, {"k\ufffd": [None]}),
    ],
)
def test_unfit_values_are_replaced(dirty: Any, clean: Any) -> None:
    """Each kind of unfit value has one replacement, in text too, wherever it stands."""
    assert clean_json(dirty) == clean
    assert json.loads(clean_dump({"a": [dirty]})) == {"a": [clean]}


def test_very_long_integers_do_not_fail() -> None:
    """An integer that Python refuses to write in decimal is written in hexadecimal."""
    assert clean_json(10**10_000) == hex(10**10_000)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 100_000])
def test_deep_nesting_is_cut(depth: int) -> None:
    """What lies too deep is replaced by a note, without recursion into it."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    clean, seen = clean_json(value), 0
    while isinstance(clean, list):
        clean, seen = clean[0], seen + 1
    assert (clean, seen) == (TOO_DEEP, MAX_DEPTH)


def test_a_structure_that_contains_itself_ends() -> None:
    """A list inside itself is cut at the depth."""
    loop: list[Any] = []
    loop.append(loop)
    assert TOO_DEEP in str(clean_json(loop))


def test_text_is_cleaned() -> None:
    """NUL and both halves of a broken pair are replaced; a whole pair is one character and stays."""
    assert clean_text("\x00 \udc00 \ud800 é 😀\n") == "\ufffd \ufffd \ufffd é 😀\n"
