"""Static checks: types flow through a pipeline, and every mismatch is named by both its steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from phoenix.errors import FlowInvalid
from phoenix.flow.typecheck import assignable, show, union

INPUT = "the input"
"""Stands among producers for what the pipeline itself is given."""


def named(steps: Iterable[str], otherwise: str) -> str:
    """Return names of steps as an error message shows them."""
    return " or ".join(s if s == INPUT else repr(s) for s in steps) or otherwise


@dataclass(frozen=True)
class Incoming:
    """What arrives at a step: the type, and the names of the steps it may come from."""

    type: Any
    producers: tuple[str, ...] = ()

    @classmethod
    def unknown(cls) -> Incoming:
        """Return what arrives at the start of a pipeline: anything."""
        return cls(Any, (INPUT,))

    @classmethod
    def joined(cls, several: list[Incoming]) -> Incoming:
        """Return what arrives where several ways meet."""
        names = dict.fromkeys(p for one in several for p in one.producers)
        return cls(union(*(one.type for one in several)), tuple(names))


@dataclass
class Checker:
    """Collects the problems of one flow."""

    problems: list[str] = field(default_factory=list)
    producers: dict[str, dict[str, None]] = field(default_factory=dict)
    """Names of steps, by the name of the step that their output reaches."""
    consumers: dict[str, dict[str, None]] = field(default_factory=dict)

    def expect(self, incoming: Incoming, wanted: Any, consumer: str) -> None:
        """Report when what arrives does not fit what a step takes."""
        for producer in incoming.producers:
            self.producers.setdefault(consumer, {})[producer] = None
            self.consumers.setdefault(producer, {})[consumer] = None
        if not assignable(incoming.type, wanted):
            producers = named(incoming.producers, INPUT)
            self.report(f"{producers} gives {show(incoming.type)} but {consumer!r} takes {show(wanted)}")

    def report(self, problem: str) -> None:
        """Add a problem once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def finish(self) -> None:
        """Raise FlowInvalid when anything was reported."""
        if self.problems:
            raise FlowInvalid("; ".join(self.problems) + ".", hint="Change one step of each pair.")
