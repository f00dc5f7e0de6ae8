"""Circuit breakers: what is kept of a provider that fails, and how it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

CircuitState = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class CircuitRules:
    """When a circuit opens and for how long. Times are seconds."""

    failures: int = 5
    """In a row, each within `window_seconds` of the one before, that open it."""
    window_seconds: float = 60.0
    open_seconds: float = 30.0
    """How long nobody is let through at first; doubled by each probe that fails."""
    longest_open_seconds: float = 300.0
    probe_seconds: float = 120.0
    """How long a probe may take before another one is let through."""


@dataclass(frozen=True)
class Circuit:
    """The circuit of one model at one provider. Times are Unix times by the clock of the store that keeps it.

    It is closed while `open_until` is None. Once that is past, it is half open: one call, the probe, is let
    through, and its outcome closes the circuit or opens it anew.
    """

    failures: int = 0
    failed_at: float = 0.0
    open_until: float | None = None
    open_seconds: float = 0.0
    probe_until: float | None = None

    def state(self, now: float) -> CircuitState:
        """Return how it stands at a time."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half_open"

    def wait_seconds(self, now: float) -> float:
        """Return how long until a probe may be made; 0 when closed or due."""
        if self.open_until is None:
            return 0.0
        return max(0.0, self.open_until - now, (self.probe_until or 0.0) - now)


def failed(circuit: Circuit, now: float, rules: CircuitRules, *, probing: bool) -> Circuit:
    """Return a circuit after a failure. One that was on its way when the circuit opened changes nothing."""
    if circuit.open_until is not None:
        if not probing:
            return circuit
        seconds = min(rules.longest_open_seconds, max(rules.open_seconds, 2 * circuit.open_seconds))
        return Circuit(circuit.failures + 1, now, now + seconds, seconds)
    recent = now - circuit.failed_at <= rules.window_seconds
    failures = circuit.failures + 1 if recent else 1
    if failures >= rules.failures:
        return Circuit(failures, now, now + rules.open_seconds, rules.open_seconds)
    return Circuit(failures, now)


def succeeded(circuit: Circuit, now: float, *, probing: bool) -> Circuit:
    """Return a circuit after a success. Only a probe's closes one that is open."""
    return circuit if circuit.open_until is not None and not probing else Circuit()


def probed(circuit: Circuit, now: float, rules: CircuitRules) -> Circuit:
    """Return a circuit with a probe under way where one is due, else as it is."""
    if circuit.open_until is None or circuit.wait_seconds(now) > 0:
        return circuit
    return replace(circuit, probe_until=now + rules.probe_seconds)


def abandoned(circuit: Circuit, now: float) -> Circuit:
    """Return a circuit whose probe ended without saying anything of the provider."""
    return replace(circuit, probe_until=None)


class Circuits(Protocol):
    """Port: circuit breakers by name, shared by all processes that have this store."""

    async def read(self) -> tuple[float, dict[str, Circuit]]:
        """Return the store's time, and the circuits that are not as new.

        Raises:
            StorageError: the store cannot be reached.
        """

    async def change(
        self, name: str, change: Callable[[Circuit, float], Circuit]
    ) -> tuple[float, Circuit, Circuit]:
        """Change a circuit while nobody else does; return the store's time, what it was and what it is.

        Args:
            name: Of the circuit; a new one is as `Circuit()`.
            change: Takes it and the store's time, and returns what it becomes. It may be called again.

        Raises:
            StorageError: the store cannot be reached.
        """
