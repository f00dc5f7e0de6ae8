"""Hooks: what code outside a flow sees of it while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypeVar

P = TypeVar("P")
Hook: TypeAlias = Callable[[P], Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """Where in a pipeline something happens. `path` names what encloses the step, then the step."""

    step: str
    path: tuple[str, ...]
    thread_id: str | None = None
    attempt: int = 1


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on after a pause when `resumed`."""

    pipeline: str
    thread_id: str | None
    value: Any = None
    resumed: bool = False


@dataclass(frozen=True)
class RunFinished:
    """A run ended: `status` is success, waiting or failed."""

    pipeline: str
    thread_id: str | None
    status: str
    seconds: float
    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class StepStarted:
    """A step is about to be tried."""

    place: Place
    value: Any


@dataclass(frozen=True)
class StepFinished:
    """A step's output was accepted. `cached` when it came from a cache."""

    place: Place
    output: Any
    seconds: float
    cached: bool = False


@dataclass(frozen=True)
class StepFailed:
    """An attempt failed; `will_retry` when there will be another."""

    place: Place
    error: BaseException
    seconds: float
    will_retry: bool


@dataclass(frozen=True)
class ToolStarted:
    """A step calls a tool."""

    place: Place | None
    tool: str
    input: Any
    call_id: str


@dataclass(frozen=True)
class ToolFinished:
    """A tool call ended."""

    place: Place | None
    tool: str
    call_id: str
    seconds: float
    output: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class ModelStarted:
    """A step calls a model."""

    place: Place | None
    model: str
    messages: Any
    call_id: str


@dataclass(frozen=True)
class ModelFinished:
    """A model call ended."""

    place: Place | None
    model: str
    call_id: str
    seconds: float
    output: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Hooks:
    """Functions called in order, each awaited before the run goes on.

    A pre hook that raises `RunStopped` stops the run before anything is done; any other error
    of a hook fails the run too.
    """

    pre_run: tuple[Hook[RunStarted], ...] = ()
    post_run: tuple[Hook[RunFinished], ...] = ()
    pre_step: tuple[Hook[StepStarted], ...] = ()
    post_step: tuple[Hook[StepFinished | StepFailed], ...] = ()
    pre_tool: tuple[Hook[ToolStarted], ...] = ()
    post_tool: tuple[Hook[ToolFinished], ...] = ()
    pre_model: tuple[Hook[ModelStarted], ...] = ()
    post_model: tuple[Hook[ModelFinished], ...] = ()

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, tuple(getattr(self, f.name)))

    def __add__(self, other: Hooks) -> Hooks:
        """Return both sets of hooks, these first."""
        return Hooks(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    @property
    def watch_steps(self) -> bool:
        return bool(self.pre_step or self.post_step)

    @property
    def watch_calls(self) -> bool:
        return bool(self.pre_tool or self.post_tool or self.pre_model or self.post_model)


async def fire(hooks: tuple[Hook[P], ...], payload: P) -> None:
    """Call hooks in order with one payload."""
    for hook in hooks:
        await hook(payload)


base_path: ContextVar[tuple[str, ...]] = ContextVar("phoenix_flow_base_path", default=())
"""Names of the subgraphs around the running step, such as ("parallel", "a")."""

current_place: ContextVar[Place | None] = ContextVar("phoenix_flow_place", default=None)
"""The step that is running, for the hooks of its tools and models."""
