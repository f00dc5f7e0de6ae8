"""What the calls of all projects in a process pass on their way to a provider: turns, caps, breakers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage

from phoenix.errors import ModelTimeout
from phoenix.llm.breaker import Breaker, Outcome
from phoenix.llm.calls import Backend, ModelRequest
from phoenix.llm.failures import CallFailed
from phoenix.llm.limits import Limits, RateCaps
from phoenix.llm.route import Candidate
from phoenix.llm.turns import Line, Turns

CHARS_PER_TOKEN = 4
"""About, in English and in code; what a call took in truth is counted with the next one."""
BREAKER_WAIT_SECONDS = 60.0
"""How long a call waits for a provider that is left alone, where no other model can answer."""

Emit = Callable[[str, Mapping[str, Any]], Awaitable[None]]


@dataclass
class Passage:
    """A call that is let through; the answer, if one came."""

    tokens: int | None = None
    came: bool = False

    def answered(self, message: AIMessage) -> None:
        """Note that an answer came, and what it took."""
        self.came = True
        usage = message.usage_metadata
        self.tokens = usage["total_tokens"] if usage else None


def endpoint_of(backend: Backend) -> str:
    """Return what a backend's failures and limits are counted under: model and base URL."""
    return str(getattr(backend, "endpoint", backend.name))


class Traffic:
    """Lets calls to providers through, in turn and within their caps. One for each process."""

    def __init__(self, breaker: Breaker | None = None, caps: RateCaps | None = None) -> None:
        self.breaker = breaker or Breaker()
        self._caps = caps or RateCaps()
        self._places: dict[str, Turns] = {}
        self._doors: dict[str, Turns] = {}

    @asynccontextmanager
    async def turn(
        self,
        candidate: Candidate,
        line: Line,
        request: ModelRequest,
        *,
        left_seconds: float,
        may_wait: bool,
        emit: Emit,
    ) -> AsyncIterator[Passage]:
        """Hold a call's place while it is made; what its body raises says how the provider does.

        Args:
            candidate: Who will answer, with its limits.
            line: Whose call it is: lines take turns.
            request: What will be asked.
            left_seconds: How long the call may wait here.
            may_wait: Wait for a provider that is left alone; without it another model is to answer.
            emit: Appends an event of the project.

        Raises:
            CallFailed: no turn came in time, or the provider is left alone.
        """
        passage = Passage()
        name, limits = endpoint_of(candidate.backend), candidate.limits
        if not may_wait:
            self.breaker.check(name)
        async with self._place(name, limits, line, left_seconds):
            counted = await self._counted(name, limits, line, request, left_seconds)
            longest = min(left_seconds, BREAKER_WAIT_SECONDS)
            probing = await self.breaker.admit(name, left_seconds=longest, may_wait=may_wait)
            outcome: Outcome = "unknown"
            try:
                yield passage
                outcome = "answered"
            except CallFailed as failure:
                outcome = "sick" if failure.sick else "answered"
                raise
            finally:
                if passage.came:
                    outcome = "answered"
                if passage.tokens is not None:
                    self._caps.settle(name, limits, counted=counted, used=passage.tokens)
                state = await self.breaker.settle(name, outcome, probing=probing)
                if state is not None:
                    await emit("circuit_changed", {"model": name, "state": state})

    @asynccontextmanager
    async def _place(self, name: str, limits: Limits, line: Line, left_seconds: float) -> AsyncIterator[None]:
        if limits.concurrency is None:
            yield
            return
        turns = self._places.setdefault(name, Turns(limits.concurrency))
        turns.places = limits.concurrency
        place = turns.place(line)
        async with _in_time(name, left_seconds):
            await place.__aenter__()
        try:
            yield
        finally:
            await place.__aexit__(None, None, None)

    async def _counted(
        self, name: str, limits: Limits, line: Line, request: ModelRequest, left_seconds: float
    ) -> int:
        """Wait until the caps let a call through; return the tokens counted for it."""
        if not limits.capped:
            return 0
        tokens = sum(len(message.text) for message in request.messages) // CHARS_PER_TOKEN
        door = self._doors.setdefault(name, Turns(1))
        async with _in_time(name, left_seconds), door.place(line):
            await self._caps.wait(name, limits, tokens)
        return tokens


@asynccontextmanager
async def _in_time(name: str, seconds: float) -> AsyncIterator[None]:
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            yield
    except TimeoutError as error:
        if not timer.expired():
            raise
        late = ModelTimeout(
            f"No turn to ask {name} came within {seconds:.0f} s.",
            hint="Raise its limits, or do less at once.",
        )
        raise CallFailed(late, elsewhere=True) from error
