"""One model call: what is asked, what comes back, and who answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, Protocol

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import BaseTool

from phoenix.llm.failures import Billed
from phoenix.ports import Caller
from phoenix.telemetry.redaction import mask_known

OUTPUT_TOKENS = 16_384
"""How long an answer may be where neither the request nor what is known of the model says it."""

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
    """Keyword arguments of the provider's chat model; tools in its own form once `fitted` put them in."""
    choices: Mapping[str, Any] = field(default_factory=dict)
    """How the tools are to be used, such as `tool_choice`; each backend puts them in its own form."""
    shape: OutputSchema | None = None
    """What the answer must fit, in the way that `tier` names."""
    tier: Literal["", "schema", "tool", "text"] = ""
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
    lost: Billed | None = None
    """A request before it, for the same answer, that brought no whole one."""


class Backend(Protocol):
    """Answers calls: a provider, a script or a recording."""

    name: str
    recorded: bool
    output_tokens: int
    """How long an answer may be where a request does not say it, and its cost has to be bounded."""
    output_option: str
    """The option of a request that says it."""

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return the USD that an answer costs at most; None when the price is unknown.

        Raises:
            PriceUnknown: it is unknown, and no call of unknown price may be made.
        """

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        """Return the options that give the model these tools."""

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        """Return the options of its own schema mode; None when it has none."""

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        """Answer once, without retries.

        Raises:
            CallFailed: with the error as the caller will see it, and whether to try again.
        """


def without_secrets(request: ModelRequest) -> ModelRequest:
    """Return the request without values that this process knows as secrets."""
    messages = [_masked(m) for m in request.messages]
    basis = None if request.basis is None else [_masked(m) for m in request.basis]
    return replace(request, messages=messages, basis=basis)


def _masked(message: BaseMessage) -> BaseMessage:
    content = mask_known(message.content)
    return message if content == message.content else message.model_copy(update={"content": content})


def fitted(request: ModelRequest, backend: Backend) -> ModelRequest:
    """Return the request with tools and schema as options of the backend that will answer it.

    Where its provider has no schema mode, the schema goes as a tool.
    """
    options = dict(request.options)
    if request.shape is not None:
        form = backend.schema_options(request.shape) if request.tier == "schema" else None
        if form is None and request.tier != "text":
            form = backend.tool_options([request.shape.as_tool()], tool_choice=request.shape.name)
        options = {**(form or {}), **options}
    elif request.tools:
        options = {**backend.tool_options(list(request.tools), **request.choices), **options}
    return replace(request, options=options)
