"""What a call can use at most, held before it is made."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel

from phoenix.domain.budget import Budget, Hold, Most, Spent
from phoenix.domain.run import ModelCall
from phoenix.errors import BudgetSpent, ModelTimeout
from phoenix.llm.calls import Backend, ModelRequest
from phoenix.llm.failures import Billed
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Budgets, Caller

LEAST_OUTPUT_TOKENS = 1024
"""A budget that does not afford an answer of so many tokens is spent."""
OUTPUT_OPTIONS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
MESSAGE_TOKENS = 16
"""What a provider adds to each message at most, for its role and its ends."""
CALL_TOKENS = 1024
"""What a provider adds to a call at most, such as its own words about tools."""
LATE_SECONDS = 30.0
"""How long a hold outlasts the deadline of its call: until nobody can be answered any more."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 2.0


@dataclass(frozen=True)
class Affordable:
    """A request as it may be made, and what is held for it; None where there is no limit."""

    request: ModelRequest
    hold: Hold | None = None


class Spending:
    """Holds what calls may use, before they are made.

    Args:
        budgets: What they are under; None for nothing.
        project: The id that hints name.
    """

    def __init__(self, budgets: Budgets | None, *, project: str = "ID") -> None:
        self._budgets = budgets
        self._project = project

    async def afford(self, request: ModelRequest, backend: Backend, *, deadline: float) -> Affordable:
        """Hold the most that a call may use, its answer shortened where the budget left affords no more.

        Where calls that are being made hold what is needed, it waits for them.

        Args:
            request: The call.
            backend: Who is asked.
            deadline: On the monotonic clock, when the call is given up.

        Raises:
            BudgetSpent: a budget does not even afford an answer of `LEAST_OUTPUT_TOKENS`.
            PriceUnknown: its price is unknown, and prices are strict.
            ModelTimeout: calls of others held the budget until the deadline.
        """
        if backend.recorded:
            return Affordable(request)
        if self._budgets is None or not await self._budgets.limited():
            backend.most_usd(1, 1)
            return Affordable(request)
        choices = choices_of(request, backend)
        wait = FIRST_WAIT_SECONDS
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = await self._budgets.hold(request.caller, choices, seconds=left + LATE_SECONDS)
            if isinstance(found, Spent):
                raise self.spent(found)
            if found is not None:
                return Affordable(_limited(request, backend, found), found)
            if wait >= left:
                raise ModelTimeout(
                    "Other calls held what is left of the budget until this one was late.",
                    hint="Raise the budget, or let fewer tasks run at once.",
                )
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 - spreads tries
            wait = min(LONGEST_WAIT_SECONDS, wait * 2)

    async def give_back(self, affordable: Affordable) -> None:
        """Release what was held for a call that was not answered."""
        if affordable.hold is not None and self._budgets is not None:
            await self._budgets.release(affordable.hold)

    def spent(self, spent: Spent) -> BudgetSpent:
        """Return the error that a spent budget is, with the way on."""
        if spent.scope == "day":
            hint = "It goes on at midnight (UTC), or when an administrator raises the limit."
        elif spent.scope == "organisation":
            hint = "It goes on when an administrator raises the limit."
        elif spent.scope == "project" and spent.measure == "usd":
            hint = f"Go on with `phoenix resume {self._project} --budget-usd N`."
        else:
            hint = "Extend it at the gate `budget`."
        return BudgetSpent(str(spent), hint=hint, scope=spent.scope, measure=spent.measure, task=spent.task)


def choices_of(request: ModelRequest, backend: Backend) -> list[Most]:
    """Return what a call may use with shorter and shorter answers, the wanted one first.

    Raises:
        PriceUnknown: its price is unknown, and prices are strict.
    """
    wanted = _asked(request) or backend.output_tokens
    lengths = [wanted]
    while lengths[-1] // 2 >= LEAST_OUTPUT_TOKENS:
        lengths.append(lengths[-1] // 2)
    given = most_input_tokens(request)
    return [
        Most(output_tokens=length, tokens=given + length, usd=backend.most_usd(given, length))
        for length in lengths
    ]


def lost_call(backend: Backend, afforded: Affordable, billed: Billed) -> ModelCall:
    """Return a call that brought no whole answer as it is counted.

    That is what its provider said that it used, and else the most that it can have used.
    """
    request = afforded.request
    if billed.usage is not None:
        given, written = billed.usage["input_tokens"], billed.usage["output_tokens"]
        cost = billed.cost_usd
    else:
        hold = afforded.hold
        most = hold.most if hold is not None else choices_of(request, backend)[0]
        given, written, cost = most.tokens - most.output_tokens, most.output_tokens, most.usd
    return ModelCall(
        agent=request.caller.agent,
        task=request.caller.task,
        model=backend.name,
        input_tokens=given,
        output_tokens=written,
        cost_usd=cost,
        broken=True,
    )


def most_input_tokens(request: ModelRequest) -> int:
    """Return how many tokens a request has at most: a token stands for at least one byte of text."""
    sent: list[Any] = [_said(message) for message in request.messages]
    sent += [dict(request.options), request.stop]
    text = json.dumps(sent, default=_plain, skipkeys=True, ensure_ascii=False)
    size = len(text.encode("utf-8", "surrogatepass"))
    return size + MESSAGE_TOKENS * len(request.messages) + CALL_TOKENS


def _said(message: BaseModel) -> dict[str, Any]:
    return message.model_dump(exclude={"id", "response_metadata", "usage_metadata"})


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    schema = getattr(value, "model_json_schema", None)
    return schema() if callable(schema) else str(value)


def _asked(request: ModelRequest) -> int | None:
    """Return how long the answer may be as the request says it."""
    given = [request.options[name] for name in OUTPUT_OPTIONS if isinstance(request.options.get(name), int)]
    return max(1, min(given)) if given else None


def _limited(request: ModelRequest, backend: Backend, hold: Hold) -> ModelRequest:
    """Return a request whose answer is no longer than what is held for it."""
    if _asked(request) == hold.most.output_tokens:
        return request
    kept = {name: value for name, value in request.options.items() if name not in OUTPUT_OPTIONS}
    return replace(request, options={**kept, backend.output_option: hold.most.output_tokens})


class MemoryBudgets:
    """One budget of one project, in this process: for tests, and for flows that keep nothing."""

    def __init__(self, usage: MemoryUsage, budget: Budget) -> None:
        self._usage = usage
        self._budget = budget
        self._began = time.monotonic()
        self._holds: dict[UUID, tuple[Hold, float]] = {}
        """With the end of each, on the monotonic clock."""
        self._one = asyncio.Lock()

    @property
    def held(self) -> int:
        """How many calls hold something."""
        return len(self._holds)

    async def limited(self) -> bool:
        return self._budget != Budget()

    async def hold(self, caller: Caller, choices: Sequence[Most], *, seconds: float) -> Hold | Spent | None:
        async with self._one:
            now = time.monotonic()
            self._holds = {key: held for key, held in self._holds.items() if held[1] > now}
            used = self._used()
            over: Spent | None = None
            for most in choices:
                passed = self._over(most, used)
                if passed is not None:
                    over = passed
                    continue
                held = self._held()
                if self._over(most, {name: used[name] + held[name] for name in used}) is not None:
                    return None
                hold = Hold(id=uuid4(), most=most, lowered_by=over)
                self._holds[hold.id] = (hold, now + seconds)
                return hold
            return over

    async def release(self, hold: Hold) -> None:
        self._holds.pop(hold.id, None)

    def _held(self) -> dict[str, Decimal]:
        most = [hold.most for hold, _ in self._holds.values()]
        return {
            "usd": sum((one.usd or Decimal(0) for one in most), Decimal(0)),
            "tokens": Decimal(sum(one.tokens for one in most)),
            "calls": Decimal(len(most)),
            "wall_seconds": Decimal(0),
        }

    def _used(self) -> dict[str, Decimal]:
        paid = [call for call in self._usage.calls if not call.recorded]
        return {
            "usd": sum((call.cost_usd or Decimal(0) for call in paid), Decimal(0)),
            "tokens": Decimal(sum(call.input_tokens + call.output_tokens for call in paid)),
            "calls": Decimal(len(paid)),
            "wall_seconds": Decimal(time.monotonic() - self._began),
        }

    def _over(self, most: Most, used: dict[str, Decimal]) -> Spent | None:
        budget = self._budget
        needs = {"usd": most.usd or Decimal(0), "tokens": Decimal(most.tokens), "calls": Decimal(1)}
        for measure, limit in budget.model_dump().items():
            need = needs.get(measure, Decimal(0))
            is_known = measure in ("tokens", "calls") or (measure == "usd" and most.usd is not None)
            if limit is not None and (
                used[measure] + need > limit or (not is_known and used[measure] >= limit)
            ):
                return Spent(scope="project", measure=measure, limit=Decimal(limit), used=used[measure])
        return None
