"""What `phoenix memory` asks of a service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from phoenix.client.api import LONG_SECONDS, PREFIX, Client
from phoenix.domain.memory import MemoryItem, Written
from phoenix.domain.memory_report import MemoryReport
from phoenix.engine.memories import Forgotten, Rebuilt, Searched

PATH = f"{PREFIX}/memory"
PAGE = 200
BATCH = 200
"""Items of one request; a service takes no more."""


class _Page(BaseModel):
    items: list[MemoryItem]
    next: str | None = None


class MemoryClient:
    """The memory of the organisation that a client's credential belongs to."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def search(
        self, text: str, *, kinds: Sequence[str] = (), language: str = "", limit: int = 10
    ) -> Searched:
        """Return what fits a text, the best first."""
        asked = {"text": text, "kind": list(kinds), "language": language, "limit": limit}
        return await self._client.ask(Searched, "GET", f"{PATH}/search", params=asked)

    async def get(self, memory_id: UUID) -> MemoryItem:
        """Return an item."""
        return await self._client.ask(MemoryItem, "GET", f"{PATH}/{memory_id}")

    async def all(self) -> AsyncIterator[MemoryItem]:
        """Yield every item, newest first."""
        cursor: str | None = ""
        while cursor is not None:
            page = await self._client.ask(_Page, "GET", PATH, params={"cursor": cursor, "limit": PAGE})
            for item in page.items:
                yield item
            cursor = page.next

    async def change(self, memory_id: UUID, values: dict[str, Any]) -> MemoryItem:
        """Change an item."""
        return await self._client.ask(MemoryItem, "PATCH", f"{PATH}/{memory_id}", json=values)

    async def forget(self, memory_id: UUID) -> Forgotten:
        """Remove an item for good."""
        return await self._client.ask(Forgotten, "DELETE", f"{PATH}/{memory_id}", timeout=LONG_SECONDS)

    async def bring(self, items: Sequence[dict[str, Any]]) -> Written:
        """Store items, and return what became of all of them."""
        stored: list[UUID] = []
        known = masked = 0
        for start in range(0, len(items), BATCH):
            body = {"items": items[start : start + BATCH]}
            made = await self._client.ask(Written, "POST", f"{PATH}/import", json=body, timeout=LONG_SECONDS)
            stored += made.stored
            known, masked = known + made.known, masked + made.masked
        return Written(stored=stored, known=known, masked=masked)

    async def report(self) -> MemoryReport:
        """Return what memory is worth."""
        return await self._client.ask(MemoryReport, "GET", f"{PATH}/report")

    async def rebuild(self) -> Rebuilt:
        """Make all vectors anew."""
        return await self._client.ask(Rebuilt, "POST", f"{PATH}/rebuild", timeout=LONG_SECONDS)
