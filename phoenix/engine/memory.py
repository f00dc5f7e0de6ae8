"""The memory of an organisation, as one run of a project uses it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from phoenix.domain.memory import (
    Hit,
    MemoryDraft,
    MemoryQuery,
    ProjectOutcome,
    Recalled,
    Written,
    is_held_out,
    within,
)
from phoenix.domain.run import Run
from phoenix.engine.memories import Memories
from phoenix.ports_memory import Found
from phoenix.storage import memory_outcomes
from phoenix.storage.database import transaction
from phoenix.storage.memories import has_any, words_in

LEAST_OVERLAP = 0.2
"""Share of the words of the shorter of query and item that both hold; with fewer it came by chance."""


class RunMemory:
    """The port `Memory` of one run."""

    def __init__(self, memories: Memories, run: Run) -> None:
        self._memories = memories
        self._run = run
        self._own = run.organisation_id
        self._held_out = is_held_out(run.project_id, memories.options.holdout)

    async def recall(self, query: MemoryQuery, *, task: str) -> Found:
        """Return what fits a query, the best first, and note that agents of a task have seen it."""
        if self._held_out:
            return Found(held_out=True)
        async with transaction(self._memories.database) as connection:
            if not await has_any(connection, self._own):
                return Found()
        dense, missed = await self._memories.near(self._own, query.text)
        async with transaction(self._memories.database) as connection:
            hits = await self._memories.hits(connection, self._own, query, dense)
            chosen = within(self._relevant(query, hits, dict(dense)), query)
            ids = sorted(hit.item.id for hit in chosen)
            await memory_outcomes.note_recalled(connection, self._own, self._run.project_id, ids, task=task)
        return Found([_recalled(hit) for hit in chosen], missed)

    def _relevant(self, query: MemoryQuery, hits: Sequence[Hit], near: dict[UUID, float]) -> list[Hit]:
        """Leave out what is only the nearest of what has nothing to do with the query."""
        asked, least = words_in(query.text), self._memories.vectors.embedder.least_similarity
        return [
            hit
            for hit in hits
            if near.get(hit.item.id, 0.0) >= least
            or _overlap(asked, words_in(hit.item.text)) >= LEAST_OVERLAP
        ]

    async def keep(self, drafts: Sequence[MemoryDraft]) -> Written:
        """Remember texts, masked. The same text again is the same item."""
        async with transaction(self._memories.database) as connection:
            written = await self._memories.store(connection, self._own, drafts)
        return written.model_copy(update={"unindexed": await self._memories.tried_index(self._own)})

    async def settle(self, outcome: ProjectOutcome) -> bool:
        """Credit or debit what the project has seen, once; return False where that is done already."""
        async with transaction(self._memories.database) as connection:
            settled = await memory_outcomes.settle(
                connection, self._own, self._run.project_id, outcome, held_out=self._held_out
            )
        await self._memories.expire(self._own)
        return settled


def _recalled(hit: Hit) -> Recalled:
    item = hit.item
    return Recalled(
        id=item.id,
        kind=item.kind,
        text=item.text,
        origin=item.origin,
        licence=item.licence,
        project_id=item.project_id,
        why=hit.why,
    )


def _overlap(one: set[str], other: set[str]) -> float:
    return len(one & other) / min(len(one), len(other)) if one and other else 0.0
