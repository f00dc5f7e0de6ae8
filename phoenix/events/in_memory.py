"""Events in memory: for tests, and for flows that keep nothing."""

from __future__ import annotations

from typing import Any


class MemoryEvents:
    """Keeps (kind, data) pairs in order."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, dict[str, Any]]] = []

    async def emit(self, kind: str, **data: Any) -> None:
        self.emitted.append((kind, data))

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the data of all events of a kind."""
        return [data for name, data in self.emitted if name == kind]
