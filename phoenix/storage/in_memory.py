"""Artifacts, effects and messages in memory: for tests, and for flows that keep nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from phoenix.domain.approval import GateDecision
from phoenix.domain.forecast import TaskCost
from phoenix.domain.frozen import Frozen
from phoenix.domain.gates import LeftOut
from phoenix.domain.steering import Message
from phoenix.errors import EffectConflict, NotFound
from phoenix.ports import Caller, Effect

M = TypeVar("M", bound=Frozen)


class MemoryArtifacts:
    """Keeps documents in a dictionary; forgets them with the process."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Frozen] = {}

    async def put(self, value: Frozen) -> str:
        digest = value.digest()
        self.stored.pop((digest, type(value).__name__), None)
        self.stored[digest, type(value).__name__] = value
        return digest

    async def get(self, digest: str, kind: type[M]) -> M:
        found = self.stored.get((digest, kind.__name__))
        if not isinstance(found, kind):
            raise NotFound(f"There is no {kind.__name__} {digest}.")
        return found

    async def find(self, kind: type[M], **texts: str) -> list[M]:
        return [
            value
            for value in reversed(self.stored.values())
            if isinstance(value, kind) and all(getattr(value, name) == text for name, text in texts.items())
        ]


class MemoryOutbox:
    """Does effects at once and keeps their results; forgets them with the process."""

    def __init__(self, performers: Mapping[str, Callable[[Effect], Awaitable[dict[str, Any]]]]) -> None:
        self.results: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        self._performers = performers

    async def perform(self, effect: Effect) -> dict[str, Any]:
        asked, done = dict(effect.payload), self.results.get((effect.kind, effect.key))
        if done is None:
            result = await self._performers[effect.kind](effect)
            done = self.results[effect.kind, effect.key] = (asked, result)
        if done[0] != asked:
            raise EffectConflict(f"Another {effect.kind} was asked for under the key {effect.key!r}.")
        return done[1]

    async def post(self, effect: Effect) -> None:
        await self.perform(effect)


class OpenGates:
    """Gates at which nobody is asked."""

    async def asks(self, gate: str, value: Mapping[str, Any]) -> bool:
        return False

    async def costs(self) -> list[TaskCost]:
        return []

    async def left_out(self) -> LeftOut:
        return LeftOut()

    async def decisions(self) -> list[GateDecision]:
        return []


class MemorySteering:
    """Keeps messages in a list; forgets them with the process. `reads` are what was told, once each."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reads: dict[tuple[int, str], tuple[Caller, int]] = {}

    async def unread(self, caller: Caller, *, after: int) -> list[Message]:
        return [m for m in self.messages if m.seq > after and m.concerns(caller.agent, caller.task)]

    async def read(self, caller: Caller, found: Sequence[Message], *, conversation: str, turn: int) -> None:
        for message in found:
            self.reads.setdefault((message.seq, conversation), (caller, turn))
