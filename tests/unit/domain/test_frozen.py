"""Frozen models are immutable, strict and addressed by content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from phoenix.domain.frozen import Frozen, digest_of
from phoenix.domain.project import Question, Questions, Request, Sized
from phoenix.domain.spec import Criterion

keys = st.text(max_size=5)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def test_a_value_cannot_be_changed() -> None:
    """Assigning to a field fails."""
    with pytest.raises(ValidationError):
        Request(text="x").text = "y"  # type: ignore[misc]


def test_unknown_fields_are_refused() -> None:
    """A misspelt field is an error, not lost."""
    with pytest.raises(ValidationError, match="txet"):
        Request.model_validate({"text": "x", "txet": "y"})


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_text_says_something(text: str) -> None:
    """Empty and blank text is refused."""
    with pytest.raises(ValidationError):
        Request(text=text)


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:" + "g" * 64, "md5:" + "0" * 64, "0" * 64])
def test_a_digest_is_recognised(digest: str) -> None:
    """Only `sha256:` and 64 hex digits are a digest."""
    with pytest.raises(ValidationError):
        Sized(request=digest, size="small")


def test_the_digest_is_stable() -> None:
    """The digest of a released model never changes: old references must go on to fit."""
    assert Criterion(id="C1", text="It works.").digest() == (
        "sha256:b486736fb5d9738647dcb5e44a6b7d40805f5250b73cfaefc3c385380c7488de"
    )


@given(st.dictionaries(keys, values, min_size=2))
def test_the_digest_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    """Equal JSON objects have one digest, however they were built."""
    assert digest_of(dict(reversed(value.items()))) == digest_of(value)


@given(st.lists(values, min_size=2, max_size=4))
def test_the_digest_respects_the_order_of_lists(value: list[object]) -> None:
    """Lists in another order are another value."""
    turned = list(reversed(value))
    assert (digest_of(turned) == digest_of(value)) == (repr(turned) == repr(value))


def test_the_digest_names_the_class() -> None:
    """Two models with the same fields are not the same value."""

    class One(Frozen):
        text: str

    class Two(Frozen):
        text: str

    assert One(text="x").digest() != Two(text="x").digest()
    assert One(text="x").digest() == One(text="x").digest()


def test_the_digest_survives_json() -> None:
    """A value that went through JSON has the digest it had."""
    value = Questions(request="sha256:" + "0" * 64, items=[Question(id="Q1", text="é?", default="no")])
    assert Questions.model_validate_json(value.model_dump_json()).digest() == value.digest()


def test_broken_text_has_a_digest() -> None:
    """A lone surrogate does not stop the digest: refusing it is the cleaning's part."""
    assert digest_of("\ud800").startswith("sha256:")


def test_at_most_five_questions_are_asked() -> None:
    """A sixth question is refused."""
    items = [Question(id=f"Q{n}", text="?", default="-") for n in range(1, 7)]
    with pytest.raises(ValidationError, match="at most 5"):
        Questions(request="sha256:" + "0" * 64, items=items)
