"""Deterministic repair: what is mended, and what is left alone because a guess could be wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.llm.repair import mend_json

VALUE = {"name": "pear", "tags": ["a", "b"], "note": 'say "hi"\n{not json}', "n": 1}
TEXT = json.dumps(VALUE)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"```json\n{TEXT}\n```",
        f"```\n{TEXT}\n```",
        f"Sure, here it is:\n\n{TEXT}\n\nTell me if that helps.",
        f"Here:\n```json\n{json.dumps(VALUE, indent=2)}\n```\nDone.",
        "\ufeff" + TEXT,
        TEXT[:-1] + ",}",
        TEXT.replace('"b"]', '"b", ]'),
        TEXT.replace('"n": 1}', '"n": 1'[:-6] + '"n": 1}'),
        TEXT.replace("\\n", "\n"),
        "{'name': 'pear', 'tags': ['a', 'b'], 'note': \"say \\\"hi\\\"\\n{not json}\", 'n': 1}",
        TEXT.replace('"name"', "name"),
        TEXT.replace('"pear", ', '"pear" '),
    ],
)
def test_almost_json_is_mended(text: str) -> None:
    """Fences, prose, commas, raw line breaks and quotes are put right without a model."""
    assert mend_json(text) == VALUE


def test_forgotten_closers_are_added() -> None:
    """A text that ends after a complete value gets up to three closing brackets."""
    assert mend_json('{"a": {"b": ["x", "y"') == {"a": {"b": ["x", "y"]}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I am sorry, I cannot do that.",
        "[1, 2]",
        '"text"',
        '{"name": "pear", "note": "cut in the mid',
        '{"name": "pear", "grams": 15',
        '{"a": [{"b": [{"c": ["x"',
        '{"name": "pear", "grams": }',
        '{"name": "pear"} and {"name": "apple"}',
        "{name pear grams}",
        '{"a": 1, "a": 2, }x',
    ],
)
def test_what_would_need_a_guess_is_left_alone(text: str) -> None:
    """A cut string or number, two objects, or lost words are for the repair call."""
    assert mend_json(text) is None


@settings(max_examples=40)
@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
)
def test_json_stays_as_it_is(value: dict[str, Any]) -> None:
    """A text that is JSON comes back equal."""
    assert mend_json(json.dumps(value)) == value


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), min_size=1), st.data())
def test_a_cut_never_invents(value: dict[str, str], data: st.DataObject) -> None:
    """Whatever is cut off, every key and text that comes back was there."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text)))]
    mended = mend_json(cut)
    assert mended is None or mended.items() <= value.items()
