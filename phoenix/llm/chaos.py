"""A provider that fails by rate, in every way that providers do: `chaos:RATE[,seed=N]:MODEL`."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGenerationChunk

from phoenix.errors import ModelRateLimited, ModelUnavailable, ModelUnknown
from phoenix.llm.calls import Backend, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed, broken_off, fell_silent
from phoenix.llm.normalise import prompt_digest
from phoenix.llm.patience import Patience
from phoenix.llm.streaming import StreamBroken, StreamIdle, gather

PREFIX = "chaos:"
NAME = re.compile(r"chaos:(?P<rate>[^,:]*)(?:,seed=(?P<seed>[^,:]*))?:(?P<inner>.+)", re.DOTALL)
USE = "Write it as chaos:RATE[,seed=N]:MODEL, such as chaos:0.3,seed=7:openai:gpt-5.2."
RETRY_SECONDS = 0.05
PIECES = 16
DEEP = 2000

ChaosFault = Literal[
    "rate_limited",
    "rate_limited_with_wait",
    "server_error",
    "overloaded",
    "hang",
    "drip",
    "truncated",
    "no_choices",
    "malformed_json",
    "wrong_schema",
    "unstorable",
    "wrong_tool",
]
FAULTS: tuple[ChaosFault, ...] = get_args(ChaosFault)


@dataclass(frozen=True)
class ChaosOptions:
    """Which share of calls fail, from 0 to 1, and what chance begins with."""

    rate: float
    seed: int = 0


def read_chaos(name: str) -> tuple[ChaosOptions, str]:
    """Return the options of a `chaos:` name and the model behind it.

    Raises:
        ModelUnknown: it is not of that form.
    """
    found = NAME.fullmatch(name)
    try:
        rate = float(found["rate"]) if found else -1.0
        seed = int(found["seed"] or 0) if found else 0
    except ValueError:
        found = None
    if found is None or not 0 <= rate <= 1:
        raise ModelUnknown(f"{name!r} names no faulty model.", hint=USE, field="model")
    return ChaosOptions(rate, seed), found["inner"]


class ChaosModel:
    """Answers as another backend does, but for the share of calls that fail.

    Which calls fail and how depends on the seed and on what is asked, how often: the same in every process.
    What a fault costs is what the answer would have cost, where one was given; the others cost nothing.
    """

    def __init__(
        self,
        inner: Backend,
        options: ChaosOptions,
        *,
        idle_seconds: float = Patience.idle_seconds,
        faults: Sequence[ChaosFault] = FAULTS,
    ) -> None:
        self.name = f"chaos:{options.rate:g},seed={options.seed}:{inner.name}"
        self.recorded = inner.recorded
        self.output_tokens = inner.output_tokens
        self.output_option = inner.output_option
        self.injected: Counter[str] = Counter()
        """Faults so far, by kind."""
        self._inner = inner
        self._options = options
        self._idle_seconds = idle_seconds
        self._faults = tuple(faults)
        self._asked: Counter[str] = Counter()

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return self._inner.tool_options(tools, **choices)

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return self._inner.schema_options(schema)

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return self._inner.most_usd(input_tokens, output_tokens)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        chance = self._chance(request)
        if chance.random() >= self._options.rate:
            return await self._inner.answer(request)
        fault = chance.choice(self._faults)
        self.injected[fault] += 1
        if (failure := _refused(fault, self.name)) is not None:
            raise failure
        if fault == "hang":
            return await self._streamed(_silent(), "hang")
        answer = await self._inner.answer(request)
        if fault in ("drip", "truncated"):
            return await self._streamed(self._pieces(answer.message, fault, chance), fault)
        return _spoilt(answer, fault, chance)

    def _chance(self, request: ModelRequest) -> random.Random:
        caller = request.caller
        asked = f"{caller.agent}/{caller.task}/{request.turn}/{prompt_digest(request.identity)}"
        self._asked[asked] += 1
        return random.Random(f"{self._options.seed}/{asked}/{self._asked[asked]}")  # noqa: S311 - repeatable

    async def _streamed(self, chunks: AsyncIterator[ChatGenerationChunk], fault: str) -> ModelAnswer:
        """Read a stream that brings no answer, with the deadlines of one that does."""
        try:
            await gather(chunks, idle_seconds=self._idle_seconds)
        except StreamIdle as error:
            raise fell_silent(self.name, error) from error
        except StreamBroken as error:
            raise broken_off(self.name, error) from error
        raise broken_off(self.name, f"a {fault} brought an answer")

    async def _pieces(
        self, message: AIMessage, fault: ChaosFault, chance: random.Random
    ) -> AsyncIterator[ChatGenerationChunk]:
        """Stream an answer that stops short of its end, or for ever drips."""
        text = message.text or json.dumps([call["args"] for call in message.tool_calls], default=str)
        step = max(1, len(text) // PIECES)
        for at in range(0, chance.randrange(len(text) + 1), step):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text[at : at + step]))
        while fault == "drip":
            await asyncio.sleep(self._idle_seconds / 4)
            yield ChatGenerationChunk(message=AIMessageChunk(content=" "))


async def _silent() -> AsyncIterator[ChatGenerationChunk]:
    await asyncio.Event().wait()
    yield ChatGenerationChunk(message=AIMessageChunk(content=""))


def _refused(fault: ChaosFault, name: str) -> CallFailed | None:
    """Return the failure of a call that gets no answer; None for the other faults."""
    match fault:
        case "rate_limited":
            return CallFailed(ModelRateLimited(f"{name}: 429, on purpose."), again=True)
        case "rate_limited_with_wait":
            return CallFailed(ModelRateLimited(f"{name}: 429, on purpose."), again=True, after=RETRY_SECONDS)
        case "server_error" | "overloaded":
            status = 500 if fault == "server_error" else 529
            return CallFailed(ModelUnavailable(f"{name}: {status}, on purpose."), again=True, sick=True)
        case "no_choices":
            return CallFailed(ModelUnavailable(f"{name} gave no answer, on purpose."), again=True)
    return None


def _spoilt(answer: ModelAnswer, fault: ChaosFault, chance: random.Random) -> ModelAnswer:
    """Return an answer with a fault in it, at the price of the whole one."""
    message = answer.message
    match fault:
        case "malformed_json":
            spoilt = _malformed(message, chance)
        case "wrong_schema":
            spoilt = _replaced(message, {"unheard_of": [1, 2, 3]})
        case "unstorable":
            spoilt = _replaced(message, chance.choice(UNSTORABLE)())
        case _:
            calls = [tool_call(name="unheard_of", args=c["args"], id=c["id"]) for c in message.tool_calls]
            spoilt = message.model_copy(update={"tool_calls": calls, "content": message.content or "?"})
    return replace(answer, message=spoilt)


def _malformed(message: AIMessage, chance: random.Random) -> AIMessage:
    """Return the message with its JSON cut in the middle of a string."""
    if message.tool_calls:
        broken = [
            invalid_tool_call(
                name=c["name"], args=_cut(json.dumps(c["args"]), chance), id=c["id"], error="cut"
            )
            for c in message.tool_calls
        ]
        return message.model_copy(update={"tool_calls": [], "invalid_tool_calls": broken})
    return message.model_copy(update={"content": _cut(message.text, chance) or '{"'})


def _cut(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(1, max(2, len(text) // 2))] + '"'


def _replaced(message: AIMessage, data: Any) -> AIMessage:
    """Return the message with other data where its own was."""
    if message.tool_calls:
        args = data if isinstance(data, dict) else {"data": data}
        calls = [tool_call(name=c["name"], args=args, id=c["id"]) for c in message.tool_calls]
        return message.model_copy(update={"tool_calls": calls})
    return message.model_copy(update={"content": data if isinstance(data, str) else _written(data)})


def _written(data: Any) -> str:
    try:
        return json.dumps(data)
    except RecursionError:
        return "[" * DEEP + "]" * DEEP


def _deep() -> Any:
    value: Any = []
    for _ in range(DEEP):
        value = [value]
    return value


UNSTORABLE = (
    lambda: "a NUL \x00 in a text",
    lambda: "half a surrogate \ud800",
    lambda: {"number": float("nan")},
    lambda: {"number": 10**400},
    _deep,
)
