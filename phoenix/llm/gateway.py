"""The one way to a model: within budget and time, retried, cleaned, counted, kept, recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage

from phoenix.domain.budget import Hold
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall
from phoenix.errors import InputError, ModelError, ModelTimeout, ModelUnavailable
from phoenix.llm import traced
from phoenix.llm.answers import clean_answer
from phoenix.llm.budget import Affordable, Spending, lost_call
from phoenix.llm.calls import Backend, ModelAnswer, ModelRequest, fitted, without_secrets
from phoenix.llm.compaction import compact
from phoenix.llm.failures import Billed, CallFailed, LeftAlone, cut_off, refusal
from phoenix.llm.journal import Ordinals, answer_of, kept_form
from phoenix.llm.patience import Patience
from phoenix.llm.recording import Recorder
from phoenix.llm.response_cache import ResponseCache
from phoenix.llm.route import Candidate, Router
from phoenix.llm.traffic import Traffic
from phoenix.ports import Budgets, Caller, CallJournal, Events, UsageLog

CUT_OFF = ("length", "max_tokens", "MAX_TOKENS", "incomplete", "model_context_window_exceeded")
"""How providers say that an answer ended at its limit."""
DECLINED = (
    *("content_filter", "refusal", "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
    "LANGUAGE",
)
"""How they say that they, or the model, will not answer: OpenAI, Anthropic, Google."""
MALFORMED = ("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS")
"""How Google says that what the model wrote was no call of a tool; it leaves that out of the answer."""

KEEP_SECONDS = 5.0
"""How long a stop waits for an answer that has just arrived to be kept."""


@dataclass
class _Call:
    """A call on its way through attempts and models."""

    request: ModelRequest
    key: CallKey | None
    deadline: float
    asked: ModelRequest
    """As the caller asked it: recordings know it by this."""
    compacted: bool = False

    @property
    def left_seconds(self) -> float:
        return max(0.0, self.deadline - time.monotonic())


class _Unusable(Exception):
    """An answer arrived, was paid, and cannot be used."""

    def __init__(self, cause: CallFailed, *, replayed: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.replayed = replayed


async def uncut(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end even when the caller is cancelled meanwhile, who is then cancelled after it."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=KEEP_SECONDS)
        raise


class Gateway:
    """Calls the models of one project: those that its router names, best first."""

    def __init__(  # noqa: PLR0913 - each is one thing that a call passes
        self,
        router: Router,
        *,
        usage: UsageLog,
        journal: CallJournal,
        events: Events,
        budgets: Budgets | None = None,
        project: str = "ID",
        recorder: Recorder | None = None,
        patience: Patience | None = None,
        traffic: Traffic | None = None,
        organisation: str = "",
        cache: ResponseCache | None = None,
    ) -> None:
        self.name = router.name
        self.usage = usage
        self._router = router
        self._journal = journal
        self._ordinals = Ordinals()
        self._events = events
        self._spending = Spending(budgets, project=project)
        self._recorder = recorder
        self._patience = patience or Patience()
        self._traffic = traffic or Traffic()
        self._line = (organisation, project)
        self._cache = cache
        self._warned = False

    async def call(self, request: ModelRequest) -> AIMessage:
        """Return the answer to a request; one that arrived before a crash is not asked for again.

        The first model that the router names is asked, and where it cannot answer the next one.

        Raises:
            BudgetSpent: a budget does not afford it.
            PriceUnknown: its price is unknown, and prices are strict.
            ModelTimeout: no answer within the deadline, all attempts together.
            ModelError: as `failures` translates it, of the last model that was asked.
        """
        deadline = time.monotonic() + self._patience.deadline_seconds
        request = without_secrets(request)
        candidates = list(await self._router.route(request))
        call = _Call(request, self._ordinals.key(request, self.name), deadline, request)
        while candidates:
            candidate = candidates.pop(0)
            try:
                return await self._ask(call, candidate, is_last=not candidates)
            except CallFailed as failure:
                if not (failure.elsewhere and candidates and call.left_seconds):
                    raise failure.error from failure
                await self._tell_fallback(request.caller, candidate, candidates[0], failure.error)
        raise ModelUnavailable

    async def _ask(self, call: _Call, candidate: Candidate, *, is_last: bool) -> AIMessage:
        """Have one model answer.

        Raises:
            CallFailed: it does not, after all attempts that it gets.
        """
        patience = self._patience
        attempts = patience.attempts if is_last else patience.attempts_before_fallback
        attempt = 1
        before: CallFailed | None = None
        while True:
            try:
                return await self._attempt(call, candidate, is_last=is_last)
            except _Unusable as failure:
                # It was answered, so what is asked next is another call.
                call.key = self._ordinals.key(call.request, self.name)
                cause, replayed = failure.cause, failure.replayed
            except LeftAlone as failure:
                # Why it is left alone says more than that it is.
                raise failure if before is None else CallFailed(before.error, elsewhere=True) from failure
            except CallFailed as failure:
                cause, replayed = failure, False
            if cause.too_long and await self._compact(call):
                continue
            wait = 0.0 if replayed else patience.wait_seconds(attempt, cause.after)
            over = attempt == attempts or wait >= call.left_seconds
            if not cause.again or over or (wait > patience.fallback_wait_seconds and not is_last):
                raise cause
            if not replayed:
                await self._tell_retry(call.request.caller, attempt, cause.error, wait)
                await asyncio.sleep(wait)
            attempt, before = attempt + 1, cause

    async def _attempt(self, call: _Call, candidate: Candidate, *, is_last: bool) -> AIMessage:
        kept = await self._journal.find(call.key) if call.key is not None else None
        answer = answer_of(kept) if kept is not None else None
        if kept is not None and answer is not None:
            return await self._replayed(call.asked, kept, answer)
        # What is asked again within one execution asks for another answer.
        if self._cache is not None and (call.key is None or call.key.ordinal == 0):
            answer = await self._cache.find(call.request)
            if answer is not None:
                return await self._cached(call, answer)
        backend = candidate.backend
        request = fitted(call.request, backend)
        turn = self._traffic.turn(
            candidate, self._line, request, left_seconds=call.left_seconds, may_wait=is_last, emit=self.emit
        )
        async with turn as passed:
            afforded = await self._spending.afford(request, backend, deadline=call.deadline)
            started = time.monotonic()
            answer = await self._paid(backend, afforded, call)
            message, unreadable = clean_answer(answer.message)
            passed.answered(message)
            misfit = self._misfit(answer, message, unreadable)
            seconds = time.monotonic() - started
            counted = self._counted(request, answer, message, afforded.hold, seconds)
            kept = kept_form(answer, message, unreadable, accepted=misfit is None)
            # Before anything else is waited for: what arrived is paid.
            await uncut(self._count(call.key, kept, counted, answer, message, afforded.hold))
        if misfit is not None:
            self._refuse_shortened(answer, afforded.hold)
            raise _Unusable(misfit)
        if self._cache is not None:
            await self._cache.keep(call.request, answer, message)
        if self._recorder is not None:
            await self._recorder.write(call.asked, answer, message)
        return message

    async def _paid(self, backend: Backend, afforded: Affordable, call: _Call) -> ModelAnswer:
        """Return a backend's answer; what was held for one that does not come is given back or counted."""
        began = time.monotonic()
        try:
            answer = await self._answered(backend, afforded.request, call)
        except BaseException as error:
            traced.failed(backend.name, call.request.caller, time.monotonic() - began, error)
            await uncut(self._end_failed(backend, afforded, error))
            raise
        if answer.lost is not None:
            await uncut(self._lose(backend, replace(afforded, hold=None), answer.lost))
        return answer

    async def _end_failed(self, backend: Backend, afforded: Affordable, error: BaseException) -> None:
        """Count what a call without an answer may cost, or give back what was held for it."""
        if isinstance(error, CallFailed):
            await self._lose(backend, afforded, error.billed)
        elif isinstance(error, asyncio.CancelledError):
            # It had been asked.
            await self._lose(backend, afforded, Billed())
        else:
            await self._spending.give_back(afforded)

    async def _lose(self, backend: Backend, afforded: Affordable, billed: Billed | None) -> None:
        """Count a call without a whole answer that may be billed; else give back what was held for it."""
        if billed is None or backend.recorded:
            await self._spending.give_back(afforded)
            return
        counted = lost_call(backend, afforded, billed)
        await self._journal.keep(None, None, counted, hold=afforded.hold)
        await self._events.emit("model_called", **counted.model_dump(mode="json"), tool_calls=[])

    async def _answered(self, backend: Backend, request: ModelRequest, call: _Call) -> ModelAnswer:
        """Return a backend's answer if it comes in time."""
        seconds = min(self._patience.answer_seconds, call.left_seconds)
        is_whole = seconds == self._patience.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                return await backend.answer(request)
        except TimeoutError as error:
            longest = seconds if is_whole else self._patience.deadline_seconds
            late = ModelTimeout(f"{backend.name} did not answer within {longest:g} s.")
            raise CallFailed(late, again=True, sick=True, billed=Billed()) from error

    async def _compact(self, call: _Call) -> bool:
        """Make a call's conversation shorter, once; tell whether it is."""
        if call.compacted:
            return False
        call.compacted = True
        found = compact(call.request.messages)
        if found is None:
            return False
        call.request = replace(call.request, messages=found.messages)
        call.key = self._ordinals.key(call.request, self.name)
        caller = call.request.caller
        await self._events.emit(
            "conversation_compacted",
            agent=caller.agent,
            task=caller.task,
            results=found.results,
            characters=found.characters,
        )
        return True

    async def _cached(self, call: _Call, answer: ModelAnswer) -> AIMessage:
        """Return an answer of the response cache, counted as a call that cost nothing."""
        message = answer.message
        free = replace(answer, cost_usd=Decimal(0))
        counted = self._counted(call.request, free, message, None, 0.0, cached=True)
        kept = kept_form(free, message, [], accepted=True)
        await uncut(self._count(call.key, kept, counted, free, message, None))
        if self._recorder is not None:
            await self._recorder.write(call.asked, free, message)
        return message

    async def _replayed(self, request: ModelRequest, kept: KeptAnswer, answer: ModelAnswer) -> AIMessage:
        """Return an answer of the journal: it was counted when it arrived."""
        message = answer.message
        caller = request.caller
        await self._events.emit("model_replayed", agent=caller.agent, task=caller.task, model=kept.model)
        misfit = self._misfit(answer, message, kept.unreadable)
        if misfit is not None:
            raise _Unusable(misfit, replayed=True)
        if self._recorder is not None:
            await self._recorder.write(request, answer, message, once=True)
        return message

    def _misfit(self, answer: ModelAnswer, message: AIMessage, unreadable: list[str]) -> CallFailed | None:
        """Return why an answer cannot be used; None when it can."""
        if answer.finish in DECLINED or message.additional_kwargs.get("refusal"):
            text = str(message.additional_kwargs.get("refusal") or answer.finish.replace("_", " ").lower())
            return CallFailed(refusal(answer.model, text))
        if answer.finish in MALFORMED:
            text = f"{answer.model} called a tool in no form that its provider knows ({answer.finish})."
            return CallFailed(ModelUnavailable(text), again=True)
        if answer.finish in CUT_OFF:
            return cut_off(answer.model)
        if unreadable:
            text = f"{answer.model} called {', '.join(unreadable)} with arguments that are not JSON."
            return CallFailed(ModelUnavailable(text), again=True)
        if not message.tool_calls and not message.text.strip():
            return CallFailed(ModelUnavailable(f"{answer.model} gave an empty answer."), again=True)
        return None

    def _refuse_shortened(self, answer: ModelAnswer, hold: Hold | None) -> None:
        """Do not ask again for an answer that was cut off since the budget afforded no longer one.

        Raises:
            BudgetSpent: it was.
        """
        if hold is not None and hold.lowered_by is not None and answer.finish in CUT_OFF:
            raise self._spending.spent(hold.lowered_by)

    def _counted(
        self,
        request: ModelRequest,
        answer: ModelAnswer,
        message: AIMessage,
        hold: Hold | None,
        seconds: float,
        *,
        cached: bool = False,
    ) -> ModelCall:
        """Return an answered call as it is counted; without figures of its usage at the most it can cost."""
        tokens = message.usage_metadata
        details = tokens.get("input_token_details", {}) if tokens else {}
        cost = answer.cost_usd
        if cost is None and tokens is None and hold is not None:
            cost = hold.most.usd
        return ModelCall(
            agent=request.caller.agent,
            task=request.caller.task,
            model=answer.model,
            input_tokens=tokens["input_tokens"] if tokens else 0,
            output_tokens=tokens["output_tokens"] if tokens else 0,
            cost_usd=cost,
            cached_tokens=details.get("cache_read") or 0,
            recorded=self._router.recorded,
            cached=cached,
            seconds=round(seconds, 3),
        )

    async def _count(
        self,
        key: CallKey | None,
        kept: KeptAnswer,
        call: ModelCall,
        answer: ModelAnswer,
        message: AIMessage,
        hold: Hold | None,
    ) -> None:
        traced.answered(call, answer.finish)
        is_first = call.cost_usd is None and hold is not None and not self._warned
        is_first = is_first and (await self.usage.total()).cost_usd is not None
        await self._journal.keep(key, kept, call, hold=hold)
        if is_first:
            self._warned = True
            await self._events.emit("price_unknown", model=call.model)
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

    async def _tell_fallback(
        self, caller: Caller, left: Candidate, taken: Candidate, error: ModelError | InputError
    ) -> None:
        await self._events.emit(
            "model_fell_back",
            agent=caller.agent,
            task=caller.task,
            model=left.alias,
            to=taken.alias,
            reason=error.code,
            message=error.message,
        )

    async def emit(self, kind: str, data: Mapping[str, Any]) -> None:
        """Append an event of this project."""
        await self._events.emit(kind, **data)
