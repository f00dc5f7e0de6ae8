"""The error tree is drawn as it is, and every error says what happened."""

from __future__ import annotations

import re

import pytest

from phoenix import errors
from phoenix.errors import DomainInvalid, LoopExhausted, ModelTimeout, NoModel, PhoenixError


def walk(kind: type[PhoenixError], depth: int = 0) -> list[tuple[int, type[PhoenixError]]]:
    """Return the class and all below it, with their depths, as the tree is drawn."""
    own = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [(depth, kind)] + [pair for child in own for pair in walk(child, depth + 1)]


TREE = walk(PhoenixError)
CLASSES = [kind for _, kind in TREE]


def test_the_docstring_draws_the_tree() -> None:
    """Every class is drawn below its parent, and nothing is drawn that is not there."""
    drawn = re.findall(r"^([│├└─ ]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)[1:]
    assert [(len(marks) // 4, name) for marks, name in drawn] == [(d, kind.__name__) for d, kind in TREE]


def test_every_code_is_unique() -> None:
    """Programs can tell errors apart by their codes."""
    codes = [kind("x").code if kind is not DomainInvalid else DomainInvalid([]).code for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert NoModel().code == "no_model"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_sentence_of_its_own(kind: type[PhoenixError]) -> None:
    """The class docstring is a sentence, and no parent's."""
    doc = kind.__dict__.get("__doc__") or ""
    assert doc.strip().splitlines()[0].endswith(".")
    assert doc[0].isupper()


def test_the_docstring_is_the_default_message() -> None:
    """An error that is raised bare says what its class says."""
    assert str(ModelTimeout()) == "The model did not answer in time."


def test_message_field_and_hint_are_shown_in_order() -> None:
    """The reader sees where, what, and what to do."""
    error = NoModel("no key.", field="model", hint="Set OPENAI_API_KEY.")
    assert str(error) == "model: no key. Set OPENAI_API_KEY."


def test_a_categorys_errors_inherit_it() -> None:
    """What is worth trying again, or is the input's fault, is known by class."""
    assert NoModel().category == "input"
    assert ModelTimeout().category == "transient"
    assert DomainInvalid([]).category == "input"


def test_errors_keep_what_they_carry() -> None:
    """The last output of a loop and the problems of a document are there for the handler."""
    assert LoopExhausted("cap", last=3).last == 3
    assert str(DomainInvalid([("a", "x"), ("b", "y")])) == "a: x; b: y"
