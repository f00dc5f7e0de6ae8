"""Which backends may answer a call, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from phoenix.llm.calls import Backend, ModelRequest
from phoenix.llm.limits import NO_LIMITS, Limits
from phoenix.ports import Caller


@dataclass(frozen=True)
class Candidate:
    """A backend that may answer, and why it was chosen."""

    backend: Backend
    alias: str
    """Its name in the catalogue; `provider:model` where none names it."""
    reason: str
    limits: Limits = NO_LIMITS
    """Its caps at the provider."""


@runtime_checkable
class Router(Protocol):
    """Chooses the backends of a call."""

    name: str
    """What a project's models are called where they are shown, and in journal keys."""
    recorded: bool

    async def route(self, request: ModelRequest) -> Sequence[Candidate]:
        """Return who may answer, best first; never empty.

        Raises:
            ModelUnknown: tier, pin and prohibitions leave none.
        """

    def room(self, caller: Caller) -> int | None:
        """Return the context window of the model that a caller is meant for; None where nothing says it."""


class OneBackend:
    """Always the same backend."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self.recorded = backend.recorded
        self._candidate = Candidate(backend, backend.name, "the only one")

    async def route(self, request: ModelRequest) -> Sequence[Candidate]:
        return (self._candidate,)

    def room(self, caller: Caller) -> int | None:
        return None
