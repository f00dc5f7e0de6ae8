"""Structured output: the provider's schema mode, else a tool call, else plain text; then repair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import ValidationError

from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelRejected, OutputUnusable
from phoenix.llm.calls import ModelRequest, OutputSchema
from phoenix.llm.gateway import Gateway
from phoenix.llm.repair import fit, mend_json
from phoenix.llm.schema import output_schema, schema_text
from phoenix.ports import Caller

M = TypeVar("M", bound=Frozen)
Tier = Literal["schema", "tool", "text"]
TIERS: tuple[Tier, ...] = ("schema", "tool", "text")
MAX_SHOWN_CHARS = 20_000


@dataclass(frozen=True)
class _Misfit:
    """An answer that does not fit, and why."""

    raw: str
    problem: str


class StructuredCalls:
    """Asks for typed answers. What tier the provider accepts is found once and kept."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._tier: Tier = "schema"

    async def ask(self, caller: Caller, messages: Sequence[BaseMessage], schema: type[M]) -> M:
        """Return the answer as a model; `ports.Models.structured` says what it raises."""
        shape = output_schema(schema)
        first = await self._send(caller, list(messages), shape)
        value, mended, misfit = _read(first, shape, schema)
        if value is not None:
            await self._tell(caller, shape, "mended" if mended else "none")
            return value
        if misfit is None:
            raise OutputUnusable
        again = [*messages, AIMessage(misfit.raw), HumanMessage(_repair_text(misfit, shape))]
        second = await self._send(caller, again, shape)
        value, _, still = _read(second, shape, schema)
        if value is None:
            await self._tell(caller, shape, "failed")
            raise OutputUnusable(
                f"The {caller.agent} agent's {shape.name} does not fit its schema, "
                f"even after a repair: {still.problem if still else ''}",
                hint="Resume to try again, or use a stronger model.",
            )
        await self._tell(caller, shape, "call")
        return value

    async def _send(self, caller: Caller, messages: list[BaseMessage], shape: OutputSchema) -> AIMessage:
        """Call in the best tier that the provider accepts."""
        for tier in TIERS[TIERS.index(self._tier) :]:
            request = _request(tier, caller, messages, shape)
            try:
                answer = await self._gateway.call(request)
            except ModelRejected:
                if tier == TIERS[-1]:
                    raise
                continue
            self._tier = tier
            return answer
        raise ModelRejected

    async def _tell(self, caller: Caller, shape: OutputSchema, repair: str) -> None:
        await self._gateway.emit(
            "structured_answered",
            {
                "agent": caller.agent,
                "task": caller.task,
                "schema": shape.name,
                "tier": self._tier,
                "repair": repair,
            },
        )


def _request(tier: Tier, caller: Caller, messages: list[BaseMessage], shape: OutputSchema) -> ModelRequest:
    sent = [*messages, HumanMessage(_schema_text(shape))] if tier == "text" else messages
    return ModelRequest(caller, sent, tools=[shape.as_tool()], shape=shape, tier=tier, basis=messages)


def _read(message: AIMessage, shape: OutputSchema, schema: type[M]) -> tuple[M | None, bool, _Misfit | None]:
    """Return the value and whether it was mended, or else what is wrong with it."""
    calls = [c["args"] for c in message.tool_calls if c["name"] == shape.name]
    raw = json.dumps(calls[0], ensure_ascii=False) if calls else message.text
    data = mend_json(raw)
    if data is None:
        return None, False, _Misfit(raw[:MAX_SHOWN_CHARS], "it is not one JSON object")
    try:
        value, trimmed = fit(clean_json(data), schema)
    except ValidationError as error:
        return None, False, _Misfit(raw[:MAX_SHOWN_CHARS], _problems(error))
    return value, trimmed or not _is_plain(raw), None


def _is_plain(raw: str) -> bool:
    try:
        json.loads(raw)
    except ValueError:
        return False
    return True


def _problems(error: ValidationError) -> str:
    lines = [f"{'.'.join(map(str, e['loc'])) or 'the whole'}: {e['msg']}" for e in error.errors()[:20]]
    return "; ".join(lines)


def _schema_text(shape: OutputSchema) -> str:
    return schema_text(json.dumps(shape.parameters, ensure_ascii=False))


def _repair_text(misfit: _Misfit, shape: OutputSchema) -> str:
    return f"That answer cannot be used: {misfit.problem}.\nCorrect it. {_schema_text(shape)}"
