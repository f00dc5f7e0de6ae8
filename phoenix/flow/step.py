"""Steps: typed async functions, the leaves of every flow."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, TypeVar, get_origin, get_type_hints, overload

from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy

from phoenix.errors import FlowInvalid
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label
from phoenix.flow.failure import is_transient
from phoenix.flow.feedback import Feedback
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.leaf import add_leaf
from phoenix.flow.mermaid import Drawing, Source
from phoenix.flow.typecheck import Check, check_of, members, mismatch, misreturn
from phoenix.flow.verdict import Validator

In = TypeVar("In", contravariant=True)  # noqa: PLC0105
Out = TypeVar("Out", covariant=True)  # noqa: PLC0105
A = TypeVar("A")
B = TypeVar("B")

BACKOFF = RetryPolicy(
    initial_interval=0.5, backoff_factor=2.0, max_interval=30.0, jitter=True, retry_on=is_transient
)
"""Waits between attempts of a step, in seconds; what is transient is tried again."""
RETRIES = 3


@dataclass(frozen=True, eq=False)
class Step(Flow[In, Out]):
    """A typed async function as a flow. Made by `@step`."""

    name: str
    function: Callable[..., Awaitable[Any]]
    takes: Any = Any
    gives: Any = Any
    value_parameter: str = ""
    value_is_first: bool = True
    runtime_parameter: str = ""
    feedback_parameter: str = ""
    retry: RetryPolicy = BACKOFF
    max_attempts: int = 1
    timeout_seconds: float | None = None
    validators: tuple[Validator, ...] = ()
    redirects: tuple[Flow[Any, Any], ...] = ()

    @property
    def takes_check(self) -> Check | None:
        return check_of(self.takes)

    @property
    def gives_check(self) -> Check | None:
        return check_of(self.gives)

    def types(self) -> tuple[Any, ...]:
        return (self.takes, self.gives)

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return self.redirects

    def with_options(self, **changes: Any) -> Step[In, Out]:
        """Return the same step with some fields changed, such as `name` or `timeout_seconds`."""
        return replace(self, **changes)

    async def call(
        self, value: Any, runtime: Runtime[Any] | None = None, feedback: Feedback | None = None
    ) -> Any:
        """Call the function with what it declares."""
        extra: dict[str, Any] = {}
        if self.runtime_parameter:
            extra[self.runtime_parameter] = runtime
        if self.feedback_parameter:
            extra[self.feedback_parameter] = feedback
        return await self.function(**{self.value_parameter: value}, **extra)

    async def run(  # type: ignore[override]
        self,
        value: In,
        *,
        context: Any = None,
        feedback: Feedback | None = None,
        runtime: Runtime[Any] | None = None,
    ) -> Out:
        """Run the step alone, once, with its type checks: no graph, retries or validators.

        Raises:
            StepTypeMismatch: the input or the output is of the wrong type.
        """
        self.check_input(value, "the caller")
        output: Out = await self.call(value, runtime or Runtime(context=context), feedback)
        self.check_output(output, "the caller")
        return output

    def check_input(self, value: Any, producer: str) -> None:
        """Refuse a value that the step does not take."""
        check = self.takes_check
        if check is not None and not check(value):
            raise mismatch(value, self.takes, producer, self.name)

    def check_output(self, output: Any, consumer: str) -> None:
        """Refuse an output that the step does not declare."""
        check = self.gives_check
        if check is not None and not check(output):
            raise misreturn(output, self.gives, self.name, consumer)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        add_leaf(self, graph, entry, after)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        checker.expect(incoming, self.takes, self.name)
        given = Incoming(self.gives, (self.name,))
        outgoing = [given]
        for target in self.redirects:
            if any(inner is self for inner in target.walk()):
                checker.report(f"{self.name!r} redirects to itself through {target.name!r}")
                continue
            outgoing.append(target.infer(checker, Incoming(self.takes, (self.name,))))
        return Incoming.joined(outgoing)

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        node = drawing.node(self.name, sources)
        ends = [Source(node)]
        for target in self.redirects:
            ends += target.draw(drawing, [Source(node, "redirect")])
        return ends

    def supersteps(self) -> int:
        own = self.max_attempts if self.validators else 1
        return own + 1 + sum(target.supersteps() for target in self.redirects)


@overload
def step(function: Callable[Concatenate[A, ...], Awaitable[B]], /) -> Step[A, B]: ...


@overload
def step(
    *,
    name: str = "",
    retry: RetryPolicy | None = None,
    max_attempts: int | None = None,
    timeout_seconds: float | None = None,
    validate: Sequence[Validator] = (),
    redirects: Sequence[Flow[Any, Any]] = (),
) -> Callable[[Callable[Concatenate[A, ...], Awaitable[B]]], Step[A, B]]: ...


def step(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    name: str = "",
    retry: RetryPolicy | None = None,
    max_attempts: int | None = None,
    timeout_seconds: float | None = None,
    validate: Sequence[Validator] = (),
    redirects: Sequence[Flow[Any, Any]] = (),
) -> Any:
    """Make a step of an async function; its types are read from the signature.

    Args:
        function: Its first parameter is the value. Others by annotation: `Runtime[...]`, `Feedback | None`.
        name: The step's name; the function's when left out.
        retry: The waits between attempts, and which errors are tried again (transient ones).
        max_attempts: How often it is tried in all: 1, or 3 when `retry` or `validate` is given.
        timeout_seconds: The longest one attempt may take.
        validate: Functions of (value, output) that accept, reject, redirect or replace an output.
        redirects: The flows that a validator may redirect to.

    Raises:
        FlowInvalid: the function is no async function of a value.
    """
    if function is None:
        return lambda f: _make(f, name, retry, max_attempts, timeout_seconds, validate, redirects)
    return _make(function, name, retry, max_attempts, timeout_seconds, validate, redirects)


def _make(
    function: Callable[..., Awaitable[Any]],
    name: str,
    retry: RetryPolicy | None,
    max_attempts: int | None,
    timeout_seconds: float | None,
    validate: Sequence[Validator],
    redirects: Sequence[Flow[Any, Any]],
) -> Step[Any, Any]:
    name = name or getattr(function, "__name__", "")
    if not inspect.iscoroutinefunction(function):
        raise FlowInvalid(f"{name or function!r} is not an async function.", hint="Write `async def`.")
    if max_attempts is None:
        max_attempts = RETRIES if retry or validate else 1
    if max_attempts < 1:
        raise FlowInvalid(f"{name!r}: max_attempts is {max_attempts}.", hint="Give 1 or more.")
    value, runtime, feedback, hints = _signature(function, name)
    policy = retry or BACKOFF
    if policy.retry_on is RetryPolicy().retry_on:
        policy = policy._replace(retry_on=is_transient)
    return Step(
        name=name,
        function=function,
        takes=hints.get(value, Any),
        gives=hints.get("return", Any),
        value_parameter=value,
        value_is_first=next(iter(inspect.signature(function).parameters)) == value,
        runtime_parameter=runtime,
        feedback_parameter=feedback,
        retry=policy._replace(max_attempts=max_attempts),
        max_attempts=max_attempts,
        timeout_seconds=timeout_seconds,
        validators=tuple(validate),
        redirects=tuple(redirects),
    )


def _signature(function: Callable[..., Awaitable[Any]], name: str) -> tuple[str, str, str, dict[str, Any]]:
    """Return the names of the value, runtime and feedback parameters, and the types."""
    hints = _hints(function)
    found = {"value": "", "runtime": "", "feedback": ""}
    for parameter in inspect.signature(function).parameters.values():
        role = _role(hints.get(parameter.name, Any))
        if role == "value" and found["value"]:
            if parameter.default is inspect.Parameter.empty and parameter.kind not in (
                inspect.Parameter.VAR_POSITIONAL,
                inspect.Parameter.VAR_KEYWORD,
            ):
                raise FlowInvalid(
                    f"{name!r} takes both {found['value']!r} and {parameter.name!r}.",
                    hint="A step takes one value; put several into one model.",
                )
            continue
        found[role] = found[role] or parameter.name
    if not found["value"]:
        raise FlowInvalid(f"{name!r} takes no value.", hint="Give it a first parameter.")
    return found["value"], found["runtime"], found["feedback"], hints


def _role(declared: Any) -> str:
    if any((get_origin(m) or m) is Runtime for m in members(declared)):
        return "runtime"
    return "feedback" if Feedback in members(declared) else "value"


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolve annotations, also those that name classes of the function `@step` is used in."""
    local: dict[str, Any] = {}
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is function.__globals__:
            for name, found in frame.f_locals.items():
                local.setdefault(name, found)
        frame = frame.f_back
    try:
        return get_type_hints(function, localns=local, include_extras=True)
    except NameError as error:
        raise FlowInvalid(
            f"{function.__name__!r}: its annotation names {error.name!r}, which is not there at run time.",
            hint="Import it outside `if TYPE_CHECKING`.",
        ) from error
