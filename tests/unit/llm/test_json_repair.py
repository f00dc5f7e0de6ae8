"""Deterministic repair: what is mended, and what is left alone because a guess could be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix.domain.cleaning import clean_json
from phoenix.llm.lenient import Budget, Reader, Unclear
from phoenix.llm.repair import MAX_MENDED_CHARS, mend_json
from tests.unit.llm.hostile import hostile

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


CORPUS = Path(__file__).parents[2] / "golden" / "broken_json.jsonl"


def test_the_corpus_is_mended_and_nothing_in_it_wrongly() -> None:
    """Of 300 broken answers at least 95 % are mended; what is uncertain is left to the repair call."""
    lines = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
    certain = [line for line in lines if line["value"] is not None]
    found = [(line, mend_json(line["text"])) for line in lines]
    wrong = [line for line, value in found if value is not None and clean_json(value) != line["value"]]
    assert wrong == []
    assert len(certain) == 300
    assert sum(value is not None for _, value in found) >= 285


@pytest.mark.parametrize(
    "text",
    [
        # A string or a list that could as well end elsewhere.
        '{"a": ["use "x", "y" and z", "b"]}',
        '{"a": "a 5" pipe"}',
        '{"a": "he said "b": "c" to me"}',
        # What lies in an object that is broken is not the answer.
        '{"a": {"b": 1}, "c": oops}',
        '{"plan": {"path": "short"}, "why": "cut in the mi',
        # Closers that may have been followed by more, and values that may be cut.
        '{"a": [1, 2',
        '{"a": "x",',
        '{"a": tru',
        # Languages differ in what they mean.
        '{"a": 007}',
        '{"a": 1_000}',
        "{'a': 'b' 'c'}",
        '{"a": "\\x41"}',
        '{"a": [1,,2]}',
        '{"a": [1, 2, ...]}',
        '{"a": undefined}',
        '{"a": /* no end {"b": 1}',
        # Braces that are no object.
        "{name} and {other}",
        '{"a": "b" "c"}',
    ],
)
def test_what_is_uncertain_is_left_alone(text: str) -> None:
    """The model is asked instead."""
    assert mend_json(text) is None


def test_nothing_is_taken_from_thoughts() -> None:
    """An object in what a model thought is not its answer, nor is one that it weighed against another."""
    assert mend_json('<think>{"a": 1}</think>{"a": 2}') == {"a": 2}
    assert mend_json('<think>{"a": 1}</think>I cannot say.') is None
    assert mend_json('{"a": 1} or {"a": 2}') is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_no_number_is_no_value(value: str) -> None:
    """No store holds them."""
    assert mend_json(f'{{"a": {value}}}') == {"a": None}


def test_hostile_outputs_end_and_give_nothing_that_breaks() -> None:
    """Whatever comes, a repair ends after a bounded number of steps, and gives an object or nothing."""
    for text in hostile(500):
        found = mend_json(text)
        assert found is None or isinstance(found, dict)
        json.dumps(clean_json(found), allow_nan=False)


def test_a_text_that_takes_too_many_steps_is_given_up() -> None:
    """All places where an object may begin share one budget; when it is spent nothing further is tried."""
    text = '{"a": "b"}'
    budget = Budget(text)
    assert Reader(text, 0, budget).read_object() == '{"a":"b"}'
    budget.left = 5
    with pytest.raises(Unclear) as caught:
        Reader(text, 0, budget).read_object()
    assert caught.value.is_object


def test_what_is_too_long_to_mend_is_left_alone() -> None:
    """Whole JSON of that length is read all the same."""
    value = {"a": "x" * MAX_MENDED_CHARS}
    assert mend_json(json.dumps(value)) == value
    assert mend_json(json.dumps(value)[:-1] + ",}") is None
