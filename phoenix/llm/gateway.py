"""The one way to a model: within budget and time, retried, cleaned, counted, recorded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field

from phoenix.domain.run import ModelCall
from phoenix.errors import BudgetSpent, InputError, ModelError, ModelTimeout, ModelUnavailable
from phoenix.llm.answers import clean_answer
from phoenix.llm.calls import Backend, ModelAnswer, ModelRequest, ToolLike
from phoenix.llm.failures import CallFailed, cut_off, refusal
from phoenix.llm.recording import Recorder
from phoenix.ports import Caller, Events, UsageLog


@dataclass(frozen=True)
class Patience:
    """How long one call may take, all its attempts together, and how it waits between them."""

    deadline_seconds: float = 600.0
    attempts: int = 4
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0

    def wait_seconds(self, attempt: int, asked: float | None) -> float:
        """Return the wait after an attempt, numbered from 1: what was asked, else doubled, with jitter."""
        if asked is not None:
            return asked
        doubled = min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** (attempt - 1))
        return float(doubled * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, keeps no secret


class Gateway:
    """Calls one backend for one project."""

    def __init__(
        self,
        backend: Backend,
        *,
        usage: UsageLog,
        events: Events,
        budget: Decimal | None = None,
        project: str = "ID",
        recorder: Recorder | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.backend = backend
        self.usage = usage
        self._events = events
        self._budget = budget
        self._project = project
        self._recorder = recorder
        self._patience = patience or Patience()
        self._warned = False
        self._priced = Decimal(0)
        """What this process knows to have spent: counts where a call of unknown price hides the total."""

    async def call(self, request: ModelRequest) -> AIMessage:
        """Return the answer to a request.

        Raises:
            BudgetSpent: the budget is spent.
            ModelTimeout: no answer within the deadline, all attempts together.
            ModelError: as `failures` translates it, after the last attempt.
        """
        patience = self._patience
        deadline = time.monotonic() + patience.deadline_seconds
        for attempt in range(1, patience.attempts + 1):
            await self._check_budget()
            try:
                return await self._attempt(request, deadline)
            except CallFailed as failure:
                wait = patience.wait_seconds(attempt, failure.after)
                late = time.monotonic() + wait >= deadline
                if not failure.again or attempt == patience.attempts or late:
                    raise failure.error from failure
                await self._tell_retry(request.caller, attempt, failure.error, wait)
                await asyncio.sleep(wait)
        raise ModelUnavailable

    async def _attempt(self, request: ModelRequest, deadline: float) -> AIMessage:
        started = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, deadline - started)):
                answer = await self.backend.answer(request)
        except TimeoutError as error:
            seconds = self._patience.deadline_seconds
            raise ModelTimeout(f"{self.backend.name} did not answer within {seconds:g} s.") from error
        message, unreadable = clean_answer(answer.message)
        await self._count(request, answer, message, time.monotonic() - started)
        self._check_answer(answer, message, unreadable)
        if self._recorder is not None:
            await self._recorder.write(request, answer, message)
        return message

    def _check_answer(self, answer: ModelAnswer, message: AIMessage, unreadable: list[str]) -> None:
        if answer.finish == "content_filter" or message.additional_kwargs.get("refusal"):
            text = str(message.additional_kwargs.get("refusal") or "content filter")
            raise CallFailed(refusal(answer.model, text))
        if answer.finish in ("length", "max_tokens", "MAX_TOKENS", "incomplete"):
            raise cut_off(answer.model)
        if unreadable:
            text = f"{answer.model} called {', '.join(unreadable)} with arguments that are not JSON."
            raise CallFailed(ModelUnavailable(text), again=True)
        if not message.tool_calls and not message.text.strip():
            raise CallFailed(ModelUnavailable(f"{answer.model} gave an empty answer."), again=True)

    async def _check_budget(self) -> None:
        if self._budget is None or self.backend.recorded:
            return
        total = (await self.usage.total()).cost_usd
        spent = self._priced if total is None else total
        self._warned = self._warned or total is None
        if spent >= self._budget:
            raise BudgetSpent(
                f"The project has spent {spent:.2f} of {self._budget:.2f} USD.",
                hint=f"Go on with `phoenix resume {self._project} --budget-usd N`.",
            )

    async def _count(
        self, request: ModelRequest, answer: ModelAnswer, message: AIMessage, seconds: float
    ) -> None:
        tokens = message.usage_metadata
        call = ModelCall(
            agent=request.caller.agent,
            task=request.caller.task,
            model=answer.model,
            input_tokens=tokens["input_tokens"] if tokens else 0,
            output_tokens=tokens["output_tokens"] if tokens else 0,
            cost_usd=answer.cost_usd,
            recorded=self.backend.recorded,
            seconds=round(seconds, 3),
        )
        await self.usage.add(call)
        self._priced += call.cost_usd or Decimal(0)
        if call.cost_usd is None and self._budget is not None and not self._warned:
            self._warned = True
            await self._events.emit("price_unknown", model=call.model, budget_usd=str(self._budget))
        for kind, data in answer.notes:
            await self._events.emit(kind, **data)
        names = [c["name"] for c in message.tool_calls]
        await self._events.emit("model_called", **call.model_dump(mode="json"), tool_calls=names)

    async def _tell_retry(
        self, caller: Caller, attempt: int, error: ModelError | InputError, wait: float
    ) -> None:
        await self._events.emit(
            "model_retried",
            agent=caller.agent,
            task=caller.task,
            attempt=attempt,
            reason=error.code,
            message=error.message,
            wait_seconds=round(wait, 2),
        )

    async def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event of this project."""
        await self._events.emit(kind, **data)


class GatewayModel(BaseChatModel):
    """A caller's chat model: LangChain's interface in front of the gateway. Async only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    gateway: Gateway = Field(exclude=True, repr=False)
    caller: Caller

    @property
    def _llm_type(self) -> str:
        return "phoenix"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.gateway.backend.name, "agent": self.caller.agent, "task": self.caller.task}

    def bind_tools(
        self, tools: Sequence[ToolLike], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools; they are kept in one form for recordings."""
        choices = kwargs | ({"tool_choice": tool_choice} if tool_choice else {})
        options = self.gateway.backend.tool_options(tools, **choices)
        functions = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(phoenix_tools=functions, phoenix_options=options)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("Phoenix calls models with ainvoke only.")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.pop("phoenix_tools", ())
        options = {**kwargs.pop("phoenix_options", {}), **kwargs}
        request = ModelRequest(self.caller, messages, tools=tools, options=options, stop=stop)
        message = await self.gateway.call(request)
        return ChatResult(generations=[ChatGeneration(message=message)])
