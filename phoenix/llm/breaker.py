"""The circuit breaker in front of each model: no call is spent on a provider that is known to be down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import structlog

from phoenix.domain.circuit import (
    Circuit,
    CircuitRules,
    Circuits,
    CircuitState,
    abandoned,
    failed,
    probed,
    succeeded,
)
from phoenix.errors import StorageError
from phoenix.llm.circuits import MemoryCircuits
from phoenix.llm.failures import LeftAlone

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How old this process's view of the shared circuits gets while it makes calls."""
CLOSE_SECONDS = 1.0
PAUSE_SECONDS = 5.0
"""How long a store that failed is left alone; this process then counts for itself."""

Change = Callable[[Circuit, float], Circuit]
Outcome = Literal["answered", "sick", "unknown"]
"""What a call said of its provider: it works, it is broken, or nothing."""


class Breaker:
    """Lets calls through, or not, by what this process and others saw of a provider.

    While a circuit is closed a call costs no round trip: it is judged by a view in memory, which is brought
    up to date beside the calls. Failures, and what follows them, go to the store at once.

    Args:
        circuits: Shared by all workers; None for this process alone.
        rules: When circuits open.
        look_seconds: How old the view gets while calls are made.
    """

    def __init__(
        self,
        circuits: Circuits | None = None,
        rules: CircuitRules | None = None,
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._shared = circuits
        self._own = MemoryCircuits()
        self._rules = rules or CircuitRules()
        self._look_seconds = look_seconds
        self._view: dict[str, Circuit] = {}
        self._ahead = time.time() - time.monotonic()
        """The store's time less this process's monotonic one."""
        self._changes = 0
        self._looked_at = float("-inf")
        self._again_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None

    def states(self) -> dict[str, CircuitState]:
        """Return how the circuits stand that are not closed without a failure, as this process knows."""
        now = self._now()
        return {name: circuit.state(now) for name, circuit in self._view.items()}

    def check(self, name: str) -> None:
        """Refuse a call whose circuit is open.

        Raises:
            LeftAlone: it is.
        """
        wait = self._known(name).wait_seconds(self._now())
        if wait > 0:
            self._look_soon()
            raise LeftAlone(name, wait)

    async def admit(self, name: str, *, left_seconds: float, may_wait: bool) -> bool:
        """Return when a call may be made, and whether it is the probe of a circuit that is half open.

        Raises:
            LeftAlone: the circuit is open, and there is no time to wait or another model to ask instead.
        """
        deadline = time.monotonic() + left_seconds
        self._look_soon()
        while True:
            if self._known(name).open_until is None:
                return False
            if self._known(name).wait_seconds(self._now()) == 0:
                before, after = await self._change(name, partial(probed, rules=self._rules))
                if before != after:
                    return True
            circuit, now = self._known(name), self._now()
            wait = circuit.wait_seconds(now)
            if circuit.state(now) == "half_open":
                # Somebody else's probe may end long before its time is up.
                wait = min(wait, self._look_seconds)
            if not may_wait or time.monotonic() + wait >= deadline:
                raise LeftAlone(name, circuit.wait_seconds(now))
            await asyncio.sleep(wait)
            await self._look()

    async def settle(self, name: str, outcome: Outcome, *, probing: bool) -> CircuitState | None:
        """Take in how a call went; return what it changed the circuit to, None where it changed nothing."""
        counts = probing or self._known(name).failures > 0
        if outcome == "sick":
            change: Change = partial(failed, rules=self._rules, probing=probing)
        elif outcome == "answered" and counts:
            change = partial(succeeded, probing=probing)
        elif outcome == "unknown" and probing:
            change = abandoned
        else:
            return None
        before, after = await self._change(name, change)
        if before.open_until == after.open_until:
            return None
        state: CircuitState = "closed" if after.open_until is None else "open"
        log.warning("circuit_changed", circuit=name, state=state, failures=after.failures)
        return state

    async def looked(self) -> None:
        """Bring this process's view up to date now."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await self._look()

    async def aclose(self) -> None:
        """Let what is under way beside calls come to its end, and not for long."""
        if self._looking is not None:
            _, late = await asyncio.wait([self._looking], timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _now(self) -> float:
        return time.monotonic() + self._ahead

    def _known(self, name: str) -> Circuit:
        return self._view.get(name, Circuit())

    def _store(self) -> Circuits:
        if self._shared is None or time.monotonic() < self._again_at:
            return self._own
        return self._shared

    async def _change(self, name: str, change: Change) -> tuple[Circuit, Circuit]:
        try:
            now, before, after = await self._store().change(name, change)
        except StorageError as error:
            self._left_alone(error)
            now, before, after = await self._own.change(name, change)
        self._changes += 1
        self._ahead = now - time.monotonic()
        self._view.pop(name, None)
        if after != Circuit():
            self._view[name] = after
        return before, after

    async def _look(self) -> None:
        changes = self._changes
        try:
            now, view = await self._store().read()
        except StorageError as error:
            self._left_alone(error)
            now, view = await self._own.read()
        # What was read before a change of this process's own is older than its view.
        if changes == self._changes:
            self._ahead, self._view = now - time.monotonic(), view

    def _look_soon(self) -> None:
        """Bring the view up to date beside the call, where it is old."""
        if self._shared is None or time.monotonic() - self._looked_at < self._look_seconds:
            return
        if self._looking is None or self._looking.done():
            self._looked_at = time.monotonic()
            self._looking = asyncio.create_task(self._look())

    def _left_alone(self, error: StorageError) -> None:
        self._again_at = time.monotonic() + PAUSE_SECONDS
        log.warning("circuits_not_shared", error=error.message, seconds=PAUSE_SECONDS)
