"""Types: what fits what, and cheap tests of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType

import pytest

from phoenix.domain.frozen import Frozen
from phoenix.flow.typecheck import assignable, check_of, show

Name = NewType("Name", str)


class Base(Frozen):
    x: int = 0


class Derived(Base):
    y: int = 0


@pytest.mark.parametrize(
    ("source", "target", "fits"),
    [
        (int, int, True),
        (int, str, False),
        (int, Any, True),
        (Any, int, True),
        (Derived, Base, True),
        (Base, Derived, False),
        (int, float, True),
        (float, int, False),
        (int, int | str, True),
        (int | str, int, False),
        (int | str, str | int | None, True),
        (None, int | None, True),
        (list[int], list[int], True),
        (list[int], list[str], False),
        (list[Derived], Sequence[Base], True),
        (list, list[int], True),
        (dict[str, int], dict[str, str], False),
        (Literal["a"], str, True),
        (Literal["a"], int, False),
        (Literal["a"], Literal["a", "b"], True),
        (str, Literal["a"], False),
        (Annotated[int, "unit"], int, True),
        (Name, str, True),
        (tuple[int, ...], tuple[str, ...], False),
    ],
)
def test_assignable(source: Any, target: Any, fits: bool) -> None:
    """Static fit follows the declared types."""
    assert assignable(source, target) is fits


@pytest.mark.parametrize(
    ("declared", "value", "passes"),
    [
        (int, 1, True),
        (int, "1", False),
        (float, 1, True),
        (int | None, None, True),
        (Base, Derived(), True),
        (Derived, Base(), False),
        (list[int], [1, 2], True),
        (list[int], [1, "2"], False),
        (list[int], (1, 2), False),
        (dict[str, int], {"a": 1}, True),
        (dict[str, int], {"a": "1"}, False),
        (list[Base] | None, [Derived()], True),
        (Literal["a", "b"], "c", False),
        (Sequence[int], [1], True),
    ],
)
def test_values_are_checked(declared: Any, value: Any, passes: bool) -> None:
    """Values are tested without being changed."""
    check = check_of(declared)
    assert check is not None
    assert check(value) is passes


def test_any_needs_no_check() -> None:
    """What takes everything costs nothing."""
    assert check_of(Any) is None
    assert check_of(int | Any) is None


def test_types_are_shown_as_written() -> None:
    """Messages speak the author's language."""
    assert show(int | None) == "int | None"
    assert show(list[int]) == "list[int]"
