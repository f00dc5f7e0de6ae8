"""Steps: signatures, single runs, and their type checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from langgraph.runtime import Runtime

from phoenix.domain.frozen import Frozen
from phoenix.errors import FlowInvalid, StepTypeMismatch
from phoenix.flow import Feedback, Step, step
from tests.unit.flow.steps import inc


async def test_types_and_name_are_read_from_the_signature() -> None:
    """A bare @step needs nothing but annotations."""
    assert (inc.name, inc.takes, inc.gives) == ("inc", int, int)


async def test_a_step_runs_alone() -> None:
    """A test needs no graph to run one step."""
    assert await inc.run(1) == 2


async def test_runtime_and_feedback_are_found_by_annotation_not_by_position() -> None:
    """Parameters may stand in any order and have any name."""

    @dataclass(frozen=True)
    class Context:
        unit: str

    @step(name="labelled")
    async def label(why: Feedback | None, number: int, ports: Runtime[Context]) -> str:
        return f"{number} {ports.context.unit} {why.text if why else '-'}"

    assert label.takes is int
    assert await label.run(3, context=Context("m")) == "3 m -"
    assert await label.run(3, context=Context("m"), feedback=Feedback(source="x", text="no")) == "3 m no"
    assert await (inc >> label).run(3, context=Context("m")) == "4 m -"


async def test_a_runtime_parameter_alone_gets_the_context() -> None:
    """The cheap node of a step without feedback passes the runtime as well."""

    @step
    async def scaled(x: int, runtime: Runtime[int]) -> int:
        return x * runtime.context

    assert await (inc >> scaled).run(3, context=10) == 40


async def test_models_of_the_enclosing_function_are_resolved() -> None:
    """Annotations may name classes that are local to a test."""

    class Note(Frozen):
        text: str

    @step
    async def write(text: str) -> Note:
        return Note(text=text)

    assert write.gives is Note


async def test_an_unknown_annotation_is_refused_by_name() -> None:
    """A type imported only for type checkers is named."""

    async def wrong(x: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
        return x

    with pytest.raises(FlowInvalid, match="Missing"):
        step(wrong)


def test_a_plain_function_is_refused() -> None:
    """Steps are async."""
    with pytest.raises(FlowInvalid, match="not an async function"):
        step(lambda x: x)  # type: ignore[arg-type, return-value]


def test_two_values_are_refused() -> None:
    """A step takes one value."""

    async def both(a: int, b: int) -> int:
        return a + b

    with pytest.raises(FlowInvalid, match="'a' and 'b'"):
        step(both)


def test_zero_attempts_are_refused() -> None:
    """A step is tried at least once."""
    with pytest.raises(FlowInvalid, match="max_attempts"):
        step(max_attempts=0)(inc.function)


async def test_a_single_run_checks_input_and_output() -> None:
    """Types are checked without a graph too."""

    @step
    async def lies(x: int) -> str:
        return x  # type: ignore[return-value]

    with pytest.raises(StepTypeMismatch, match="'lies', which takes int"):
        await lies.run("1")  # type: ignore[arg-type]
    with pytest.raises(StepTypeMismatch, match="declares str"):
        await lies.run(1)


async def test_a_wrong_value_names_both_steps() -> None:
    """The message says who gave the value and who cannot take it."""

    @step
    async def anything(x: int) -> Any:
        return "text"

    with pytest.raises(StepTypeMismatch, match=r"'anything' gave str \('text'\) to 'inc', which takes int"):
        await (anything >> inc).run(1)


async def test_a_wrong_output_names_both_steps() -> None:
    """A step that breaks its own declaration is told who would have read the output."""

    @step
    async def liar(x: int) -> int:
        return "text"  # type: ignore[return-value]

    with pytest.raises(StepTypeMismatch, match=r"'liar' gave str \('text'\) to 'inc', but declares int"):
        await (liar >> inc).run(1)


async def test_a_wrong_first_value_is_refused() -> None:
    """The pipeline's own input is checked like any other."""
    with pytest.raises(StepTypeMismatch, match="the input or 'inc' gave str"):
        await (inc >> inc).run("1")  # type: ignore[arg-type]


async def test_options_make_another_step() -> None:
    """A step is never changed in place."""
    other = inc.with_options(name="other")
    assert (inc.name, other.name) == ("inc", "other")
    with pytest.raises(AttributeError):
        inc.name = "x"  # type: ignore[misc]
    assert isinstance(other, Step)
