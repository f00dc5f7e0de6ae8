"""Ports with boundaries around their tools and workspaces, and a model that is asked over a wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call

from phoenix.llm.calls import ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.ports import Ports, Sandboxes, Workspace
from tests.chaos.ledger import Ledger
from tests.chaos.outside import ask
from tests.chaos.points import Boundaries, Kind

MODEL = "chaos:model"
Lines = Callable[[ModelRequest], AIMessage]


@dataclass
class Place:
    """What the steps of this process share."""

    ledger: Ledger
    boundaries: Boundaries
    socket: str
    unpinned: bool = False
    """Guard removed: nothing is put back to the commit of the checkpoint."""


_place: list[Place] = []


def settle_in(place: Place) -> None:
    """Make a place this process's own."""
    _place[:] = [place]


def place() -> Place:
    """Return this process's place."""
    return _place[0]


class Watched:
    """Stands before an object: the named methods are boundaries; what some give is watched in turn."""

    def __init__(
        self,
        inner: object,
        kind: Kind,
        boundaries: Collection[str],
        gives: Mapping[str, Callable[[Any], Any]] | None = None,
    ) -> None:
        self._inner, self._kind = inner, kind
        self._boundaries, self._gives = boundaries, gives or {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        turned = self._gives.get(name, lambda value: value)
        if name not in self._boundaries:
            return (lambda *a, **k: turned(found(*a, **k))) if name in self._gives else found

        async def crossed(*args: Any, **kwargs: Any) -> Any:
            watch = place().boundaries.watch
            watch(self._kind, name, "before")
            value = turned(await found(*args, **kwargs))
            watch(self._kind, name, "after")
            return value

        return crossed


class Unpinned(Watched):
    """A worktree that is never put back."""

    async def restore(self, commit: str) -> None:
        """Leave the folder as it is."""


def _worktree(inner: object) -> Watched:
    kind = Unpinned if place().unpinned else Watched
    return kind(inner, "workspace", ("snapshot", "restore", "current"))


def watched(ports: Ports) -> Ports:
    """Return the same ports, watched."""
    sandboxes = Watched(
        ports.sandboxes, "tool", (), {"open": lambda s: Watched(s, "tool", ("execute", "upload", "download"))}
    )
    workspace = Watched(
        ports.workspace, "workspace", ("prepare", "worktree", "commit", "branch"), {"worktree": _worktree}
    )
    return dataclasses.replace(
        ports, sandboxes=cast("Sandboxes", sandboxes), workspace=cast("Workspace", workspace)
    )


@dataclass
class SoldModel:
    """A backend whose every answer is bought from the world outside, under a name that a retry keeps."""

    lines: Lines
    name: str = MODEL
    recorded: bool = False
    output_tokens: int = 1024
    output_option: str = "max_tokens"
    prices: Mapping[str, Decimal] = field(default_factory=dict)

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return {}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return {}

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return max(self.prices.values(), default=Decimal(0))

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        here = place()
        caller = request.caller
        work, _, line = caller.task.partition("/")
        name = f"{caller.agent}/{line}/{request.turn}"
        here.boundaries.watch("model", "answer", "before")
        await ask(here.socket, "model", work, name)
        here.boundaries.answered(line, name)
        here.boundaries.watch("model", "answer", "after")
        return ModelAnswer(self.lines(request), self.name, Decimal("0.001"), "stop")


def lines_of(agent: Sequence[tuple[str, Mapping[str, Any]]]) -> Lines:
    """Return what the model says: the agent's calls turn by turn, and a thought to every other caller."""

    def line(request: ModelRequest) -> AIMessage:
        usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
        if request.caller.agent != "agent":
            return AIMessage(f"{request.caller.agent} thought", usage_metadata=cast("Any", usage))
        name, arguments = agent[request.turn]
        call = tool_call(name=name, args=dict(arguments), id=f"call_{request.turn}")
        return AIMessage("", tool_calls=[call], usage_metadata=cast("Any", usage))

    return line
