"""A model that follows a script: for tests, with tool calls and every fault a provider shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelRateLimited, ModelRefusedKey, ModelUnavailable
from phoenix.llm.calls import OUTPUT_TOKENS, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed

FaultKind = Literal["rate_limited", "unavailable", "refused_key", "hang", "truncated", "empty"]


@dataclass(frozen=True)
class Say:
    """An answer: text, or tool calls as (name, arguments), or both."""

    content: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    input_tokens: int = 100
    output_tokens: int = 20


@dataclass(frozen=True)
class Fault:
    """A failure instead of an answer. `after_seconds` goes with rate_limited."""

    kind: FaultKind
    after_seconds: float | None = None


Line = Say | Fault | Frozen | str
"""A model stands for its JSON, a string for its text."""

Script = Mapping[str, Sequence[Line]] | Callable[[ModelRequest], Line]
"""Lines in order by `agent` or `agent/task`, the longer key first; or a function of the request."""


class ScriptedModel:
    """Speaks its lines. Keeps what it was asked in `requests`."""

    recorded = False
    output_tokens = OUTPUT_TOKENS
    output_option = "max_tokens"

    def __init__(
        self, script: Script, *, name: str = "scripted:test", cost_usd: Decimal | None = Decimal(0)
    ) -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self._script = script
        self._cost_usd = cost_usd
        self._spoken: dict[str, int] = {}

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return {}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return {}

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return self._cost_usd

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.requests.append(request)
        line = self._line(request)
        if isinstance(line, Frozen):
            line = Say(line.model_dump_json())
        elif isinstance(line, str):
            line = Say(line)
        if isinstance(line, Fault):
            return await self._fail(line)
        number = len(self.requests)
        calls = [
            tool_call(name=name, args=dict(args), id=f"call_{number}_{n}")
            for n, (name, args) in enumerate(line.calls)
        ]
        return self._answer(line, calls)

    def _line(self, request: ModelRequest) -> Line:
        if callable(self._script):
            return self._script(request)
        agent, task = request.caller.agent, request.caller.task
        key = f"{agent}/{task}" if f"{agent}/{task}" in self._script else agent
        lines = self._script.get(key, ())
        place = self._spoken.get(key, 0)
        if place >= len(lines):
            raise CallFailed(ModelUnavailable(f"The script has no line {place + 1} for {key}."))
        self._spoken[key] = place + 1
        return lines[place]

    async def _fail(self, fault: Fault) -> ModelAnswer:
        match fault.kind:
            case "hang":
                await asyncio.Event().wait()
            case "rate_limited":
                raise CallFailed(ModelRateLimited(), again=True, after=fault.after_seconds)
            case "unavailable":
                raise CallFailed(ModelUnavailable(), again=True)
            case "refused_key":
                raise CallFailed(ModelRefusedKey())
            case _:
                cut = fault.kind == "truncated"
        return self._answer(Say("half an ans" if cut else ""), [], finish="length" if cut else "stop")

    def _answer(self, say: Say, calls: list[Any], finish: str = "stop") -> ModelAnswer:
        usage = UsageMetadata(
            input_tokens=say.input_tokens,
            output_tokens=say.output_tokens,
            total_tokens=say.input_tokens + say.output_tokens,
        )
        message = AIMessage(content=say.content, tool_calls=calls, usage_metadata=usage)
        return ModelAnswer(message, self.name, self._cost_usd, finish)
