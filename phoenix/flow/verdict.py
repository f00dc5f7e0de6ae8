"""What a validation plugin may say about a step's output."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from phoenix.flow.algebra import Flow


@dataclass(frozen=True)
class Accept:
    """The output is good. Returning None says the same."""


@dataclass(frozen=True)
class Reject:
    """The output is not good: the step's next attempt reads the text as Feedback."""

    text: str


@dataclass(frozen=True)
class Replace:
    """Another output takes its place; later validators see that one."""

    output: Any


@dataclass(frozen=True)
class Redirect:
    """Another step does the work from the same input. The step must list it in `redirects`."""

    to: Flow[Any, Any]


Verdict: TypeAlias = Accept | Reject | Replace | Redirect | None
Validator: TypeAlias = Callable[[Any, Any], "Verdict | Awaitable[Verdict]"]
"""Called with (value, output) of a step."""
