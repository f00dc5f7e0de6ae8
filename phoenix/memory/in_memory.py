"""Vectors in this process: exact, forgotten with it. For tests, and where nothing may be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

from phoenix.errors import MemoryUnavailable
from phoenix.memory.hashing import HashedEmbedder
from phoenix.ports_memory import Embedder, Moved


class MemoryVectors:
    """Port `Vectors`. `fails` makes every call fail with that reason."""

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder: Embedder = embedder or HashedEmbedder()
        self.fails = ""
        self._places: dict[UUID, str] = {}
        self._vectors: dict[UUID, dict[UUID, list[float]]] = {}

    async def place(self, organisation_id: UUID) -> str:
        self._check()
        return self._places.setdefault(organisation_id, str(uuid4()))

    async def put(self, organisation_id: UUID, texts: Mapping[UUID, str]) -> str:
        place = await self.place(organisation_id)
        vectors = self.embedder.embed(list(texts.values()))
        self._vectors.setdefault(organisation_id, {}).update(zip(texts, vectors, strict=True))
        return place

    async def search(self, organisation_id: UUID, text: str, *, limit: int) -> list[tuple[UUID, float]]:
        self._check()
        (asked,) = self.embedder.embed([text])
        stored = self._vectors.get(organisation_id, {})
        near = [(i, sum(a * b for a, b in zip(asked, v, strict=True))) for i, v in stored.items()]
        return sorted(near, key=lambda found: -found[1])[:limit]

    async def remove(self, organisation_id: UUID, ids: Sequence[UUID]) -> Moved:
        place = await self.place(organisation_id)
        for item_id in ids:
            self._vectors.get(organisation_id, {}).pop(item_id, None)
        return Moved(place, place)

    async def clear(self, organisation_id: UUID) -> None:
        self._check()
        self._vectors.pop(organisation_id, None)
        self._places.pop(organisation_id, None)

    async def close(self) -> None:
        self._vectors.clear()
        self._places.clear()

    def _check(self) -> None:
        if self.fails:
            raise MemoryUnavailable(self.fails)
