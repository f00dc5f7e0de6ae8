"""Artifacts in memory: for tests, and for flows that keep nothing."""

from __future__ import annotations

from typing import TypeVar

from phoenix.domain.frozen import Frozen
from phoenix.errors import NotFound

M = TypeVar("M", bound=Frozen)


class MemoryArtifacts:
    """Keeps documents in a dictionary; forgets them with the process."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Frozen] = {}

    async def put(self, value: Frozen) -> str:
        digest = value.digest()
        self.stored[digest, type(value).__name__] = value
        return digest

    async def get(self, digest: str, kind: type[M]) -> M:
        found = self.stored.get((digest, kind.__name__))
        if not isinstance(found, kind):
            raise NotFound(f"There is no {kind.__name__} {digest}.")
        return found
