"""One model call: what is asked, what comes back, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from phoenix.ports import Caller

ToolLike = dict[str, Any] | type | Callable[..., Any] | BaseTool


@dataclass(frozen=True)
class OutputSchema:
    """A JSON Schema that an answer must fit. `strict` when it is within what strict modes allow."""

    name: str
    description: str
    parameters: dict[str, Any]
    strict: bool

    def as_tool(self) -> dict[str, Any]:
        """Return the schema as a function that a model can call."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function | ({"strict": True} if self.strict else {})}


@dataclass(frozen=True)
class ModelRequest:
    """A call as a backend receives it."""

    caller: Caller
    messages: Sequence[BaseMessage]
    tools: Sequence[dict[str, Any]] = ()
    """In OpenAI's function form, whatever the provider; for structured output the schema as one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the provider's chat model, tools in its own form included."""
    stop: list[str] | None = None
    basis: Sequence[BaseMessage] | None = None
    """Messages that identify the call, where those sent depend on the provider."""

    @property
    def identity(self) -> Sequence[BaseMessage]:
        """The messages that identify the call."""
        return self.messages if self.basis is None else self.basis

    @property
    def turn(self) -> int:
        """How many answers the conversation has: counted from it, so it survives a restart."""
        return sum(isinstance(m, AIMessage) for m in self.identity)

    @property
    def results(self) -> list[ToolMessage]:
        """The tool results that this call sees for the first time."""
        fresh: list[ToolMessage] = []
        for message in reversed(self.identity):
            if isinstance(message, AIMessage):
                break
            if isinstance(message, ToolMessage):
                fresh.append(message)
        return fresh[::-1]


@dataclass(frozen=True)
class ModelAnswer:
    """An answer as a backend gives it. `cost_usd` is None when the price is unknown."""

    message: AIMessage
    model: str
    cost_usd: Decimal | None
    finish: str = ""
    """The provider's reason for ending: `stop`, `tool_calls`, `length`, `content_filter`, ..."""
    notes: Sequence[tuple[str, dict[str, Any]]] = ()
    """Events to emit with it, as kind and data."""


class Backend(Protocol):
    """Answers calls: a provider, a script or a recording."""

    name: str
    recorded: bool

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        """Return the options that give the model these tools."""

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        """Return the options of its own schema mode; None when it has none."""

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Answer once, without retries.

        Raises:
            CallFailed: with the error as the caller will see it, and whether to try again.
        """
