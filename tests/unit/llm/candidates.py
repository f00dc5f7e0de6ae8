"""Models that fail to order, and a router over them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from phoenix.llm.calls import Backend, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed
from phoenix.llm.limits import NO_LIMITS, Limits
from phoenix.llm.route import Candidate
from phoenix.llm.scripted import ScriptedModel
from phoenix.ports import Caller


class Failing:
    """Raises what it is given, in order, then answers with its own name."""

    recorded = False

    def __init__(self, name: str, *failures: CallFailed) -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self._failures = list(failures)
        self._inner = ScriptedModel(lambda _: f"from {name}", name=name)

    output_tokens = 1000
    output_option = "max_tokens"

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return None

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return {"tools_of": self.name, **choices}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return None

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.requests.append(request)
        if self._failures:
            raise self._failures.pop(0)
        return await self._inner.answer(request)


class Chain:
    """The same models for every call, in this order."""

    recorded = False

    def __init__(self, *backends: Backend, limits: Limits = NO_LIMITS) -> None:
        self.name = "chain"
        self.backends = backends
        self._limits = limits

    async def route(self, request: ModelRequest) -> list[Candidate]:
        return [Candidate(b, b.name, "test", limits=self._limits) for b in self.backends]

    def room(self, caller: Caller) -> int | None:
        return None
