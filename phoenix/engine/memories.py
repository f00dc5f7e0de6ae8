"""What organisations remember: written once, found by meaning and words, forgotten for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_text
from phoenix.domain.frozen import Frozen
from phoenix.domain.memory import Hit, MemoryDraft, MemoryItem, MemoryQuery, Written, fuse
from phoenix.domain.memory_report import MemoryReport, report
from phoenix.engine.work import Work
from phoenix.errors import MemoryUnavailable, QuotaReached
from phoenix.ports_memory import Vectors
from phoenix.storage import memories, memory_outcomes
from phoenix.storage.database import transaction
from phoenix.storage.search import place_of

log = structlog.get_logger(__name__)

DENSE_WIDTH = 50
"""Neighbours that are looked at; filters may take some of them away."""
WORDS_WIDTH = 50
BATCH = 1000
MB = 1024**2
AGAIN_SECONDS = 3600.0


@dataclass(frozen=True)
class MemoryOptions:
    """What one organisation may keep, and which share of its projects is held out."""

    max_items: int = 20_000
    max_bytes: int = 64 * MB
    holdout: float = 0.1


class Searched(Frozen):
    """What a search has found."""

    hits: list[Hit]
    missed: str = ""
    """Why vectors were not searched; empty when they were."""


class Forgotten(Frozen):
    """What is gone."""

    ids: list[UUID]
    unremoved: str = ""
    """Why vectors are still there; they name nothing any more, and a rebuild removes them."""


class Rebuilt(Frozen):
    """Vectors that were made anew."""

    items: int
    embedder: str


class Memories:
    """The memory of all organisations.

    Args:
        database: Holds the texts.
        vectors: Find them by meaning. Whatever they cannot do is told, and words alone are searched.
        options: Limits.
    """

    def __init__(self, database: AsyncEngine, vectors: Vectors, options: MemoryOptions | None = None) -> None:
        self.database = database
        self.vectors = vectors
        self.options = options or MemoryOptions()

    # --- for runs and people -----------------------------------------------------------------

    async def near(self, organisation_id: UUID, text: str) -> tuple[list[tuple[UUID, float]], str]:
        """Return the nearest items of an organisation, and why there are none where vectors fail."""
        try:
            return await self.vectors.search(organisation_id, text, limit=DENSE_WIDTH), ""
        except MemoryUnavailable as error:
            log.warning("memory_degraded", reason=error.message)
            return [], error.message

    async def hits(
        self,
        connection: AsyncConnection,
        organisation_id: UUID,
        query: MemoryQuery,
        dense: Sequence[tuple[UUID, float]],
    ) -> list[Hit]:
        """Return what fits a query, the best first, of its nearest items and of those that hold its words."""
        words = await memories.by_words(connection, organisation_id, query, limit=WORDS_WIDTH)
        ids = {*words, *(i for i, _ in dense)}
        items = await memories.these(connection, organisation_id, ids, query)
        return fuse(items, dense, words, words_weight=self.vectors.embedder.words_weight)

    async def store(
        self, connection: AsyncConnection, organisation_id: UUID, drafts: Sequence[MemoryDraft]
    ) -> Written:
        """Store texts, masked, without vectors yet; what does not fit the limits is refused."""
        await memories.lock(connection, organisation_id)
        count, size = await memories.amount(connection, organisation_id)
        kept: dict[str, MemoryDraft] = {}
        masked, refused = 0, ""
        for draft in drafts:
            cleaned, found = draft.model_copy(update={"text": clean_text(draft.text)}).masked()
            size += len(cleaned.text.encode())
            if count + len(kept) >= self.options.max_items or size > self.options.max_bytes:
                refused = self._full()
                break
            masked += found
            kept.setdefault(cleaned.address(), cleaned)
        stored = await memories.add(connection, organisation_id, list(kept.values()))
        return Written(stored=stored, known=len(kept) - len(stored), masked=masked, refused=refused)

    def _full(self) -> str:
        most, size = self.options.max_items, self.options.max_bytes // MB
        return f"The organisation's memory is full: {most} items or {size} MB."

    async def index(self, organisation_id: UUID) -> int:
        """Store the vectors that are missing, and return how many. Idempotent.

        Raises:
            MemoryUnavailable: they cannot be stored; those that were are.
        """
        place = await self.vectors.place(organisation_id)
        after, count = None, 0
        while True:
            async with transaction(self.database) as connection:
                texts = await memories.unplaced(connection, organisation_id, place, after=after, limit=BATCH)
            if not texts:
                return count
            place = await self.vectors.put(organisation_id, texts)
            async with transaction(self.database) as connection:
                there = await memories.set_place(connection, organisation_id, texts, place)
            # What was forgotten meanwhile must not come back.
            if back := sorted(set(texts) - set(there)):
                place = await self._take_out(organisation_id, back)
            after, count = max(texts), count + len(there)

    async def tried_index(self, organisation_id: UUID) -> str:
        """Store the vectors that are missing; return why it cannot be done, empty when it is."""
        try:
            await self.index(organisation_id)
        except MemoryUnavailable as error:
            log.warning("memory_unindexed", reason=error.message)
            return error.message
        return ""

    async def expire(self, organisation_id: UUID) -> list[UUID]:
        """Forget what has expired, and return what that was."""
        async with transaction(self.database) as connection:
            over = await memories.expired(connection, organisation_id)
            gone = await memories.remove(connection, organisation_id, over)
        await self._unvector(organisation_id, gone)
        return gone

    async def _unvector(self, organisation_id: UUID, ids: Sequence[UUID]) -> str:
        try:
            if ids:
                await self._take_out(organisation_id, ids)
        except MemoryUnavailable as error:
            log.warning("memory_vectors_left", reason=error.message)
            return error.message
        return ""

    async def _take_out(self, organisation_id: UUID, ids: Sequence[UUID]) -> str:
        moved = await self.vectors.remove(organisation_id, ids)
        if moved.before != moved.after:
            async with transaction(self.database) as connection:
                await memories.move_place(connection, organisation_id, moved.before, moved.after)
        return moved.after

    # --- for people, within their request ----------------------------------------------------

    async def search(self, work: Work, query: MemoryQuery) -> Searched:
        """Return what fits a query in the caller's organisation, the best first."""
        own = work.who.organisation_id
        dense, missed = await work.during(self.near(own, query.text))
        hits = await self.hits(work.connection, own, query, dense)
        return Searched(hits=hits[: query.limit], missed=missed)

    async def page(self, work: Work, *, cursor: str, limit: int) -> tuple[list[MemoryItem], str | None]:
        """Return items, newest first, and where the next page begins.

        Raises:
            PayloadInvalid: the cursor is none.
        """
        own = work.who.organisation_id
        found = await memories.page(work.connection, own, cursor=cursor, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], None if last is None else place_of(last.created_at, last.id)

    async def get(self, work: Work, memory_id: UUID) -> MemoryItem:
        """Return an item.

        Raises:
            NotFound: the organisation has none of that id.
        """
        return await memories.get(work.connection, work.who.organisation_id, memory_id)

    async def change(
        self, work: Work, memory_id: UUID, values: dict[str, Any], *, version: int | None = None
    ) -> MemoryItem:
        """Change an item: its `text`, `tags`, `language`, `licence`, or whether it is `pinned`.

        Raises:
            NotFound: the organisation has none of that id.
            VersionConflict: somebody else has changed it.
            AlreadyThere: another item has that text.
        """
        own = work.who.organisation_id
        columns = dict(values)
        if {"text", "tags"} & set(values):
            old = await memories.get(work.connection, own, memory_id)
            written = MemoryDraft(
                kind=old.kind, text=values.get("text", old.text), tags=values.get("tags", old.tags)
            )
            draft, _ = written.masked()
            columns |= {
                "text": draft.text,
                "tags": " ".join(draft.tags),
                "digest": draft.address(),
                "place": "",
            }
            # The former text's vector goes first: Chroma would keep it in its log.
            work.after.append(lambda: self._unvector(own, [memory_id]))
            work.after.append(lambda: self.tried_index(own))
        changed = await memories.change(work.connection, own, memory_id, columns, version=version)
        await work.note("memory.change", memory_id, members=sorted(values))
        return changed

    async def forget(self, work: Work, memory_id: UUID) -> Forgotten:
        """Remove an item with its vector, and what projects quote of it.

        Raises:
            NotFound: the organisation has none of that id.
        """
        own = work.who.organisation_id
        await memories.get(work.connection, own, memory_id)
        gone = await memories.remove(work.connection, own, [memory_id])
        await work.note("memory.forget", memory_id)
        return Forgotten(ids=gone, unremoved=await work.during(self._unvector(own, gone)))

    async def bring(self, work: Work, drafts: Sequence[MemoryDraft]) -> Written:
        """Store texts that a person brings. All of them or none.

        Raises:
            QuotaReached: they do not fit the organisation's limits.
        """
        own = work.who.organisation_id
        written = await self.store(work.connection, own, drafts)
        if written.refused:
            hint = "Forget some first, or raise PHOENIX_MEMORY_MAX_ITEMS or PHOENIX_MEMORY_MAX_MB."
            raise QuotaReached(written.refused, after_seconds=AGAIN_SECONDS, hint=hint)
        await work.note("memory.import", items=len(written.stored), known=written.known)
        work.after.append(lambda: self.tried_index(own))
        return written

    async def report(self, work: Work) -> MemoryReport:
        """Return what memory is worth to the caller's organisation."""
        return report(await memory_outcomes.measured(work.connection, work.who.organisation_id))

    async def rebuild(self, work: Work) -> Rebuilt:
        """Make all vectors of the caller's organisation anew from the texts.

        Raises:
            MemoryUnavailable: they cannot be stored.
        """
        own = work.who.organisation_id
        await work.during(self.vectors.clear(own))
        count = await work.during(self.index(own))
        await work.note("memory.rebuild", items=count)
        return Rebuilt(items=count, embedder=self.vectors.embedder.name)

    async def standing(self) -> str:
        """Return why vectors cannot be used; empty when they can."""
        try:
            await self.vectors.place(UUID(int=0))
        except MemoryUnavailable as error:
            return error.message
        return ""
