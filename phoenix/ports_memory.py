"""The seams of memory: what agents are reminded of, and the vectors that find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from phoenix.domain.memory import MemoryDraft, MemoryQuery, ProjectOutcome, Recalled, Written


class Embedder(Protocol):
    """Turns texts into vectors whose angle tells how alike they are. Blocks: call it in a thread."""

    name: str
    """Names the space: vectors of another name cannot be compared with these."""
    dimensions: int
    least_similarity: float
    """Cosine under which two texts have nothing to do with each other."""
    words_weight: float
    """What a place in the word search counts beside one among its nearest: 1 for what knows words alone."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector of length 1 for each text.

        Raises:
            MemoryUnavailable: what computes them cannot be reached.
        """


@dataclass(frozen=True)
class Moved:
    """Where an organisation's vectors were before something was removed, and where they are since."""

    before: str
    after: str


class Vectors(Protocol):
    """The vectors of what organisations remember: ids and directions, never texts.

    Whatever fails raises `MemoryUnavailable`; nothing is lost by it, since texts are elsewhere.
    """

    embedder: Embedder

    async def place(self, organisation_id: UUID) -> str:
        """Return the id of where an organisation's vectors are, made when missing. A new one is empty."""

    async def put(self, organisation_id: UUID, texts: Mapping[UUID, str]) -> str:
        """Store the vectors of texts, and return the id of where they are. Idempotent."""

    async def search(self, organisation_id: UUID, text: str, *, limit: int) -> list[tuple[UUID, float]]:
        """Return the nearest ids with their cosine similarity, the nearest first."""

    async def remove(self, organisation_id: UUID, ids: Sequence[UUID]) -> Moved:
        """Remove vectors, from the files of an embedded index too. The others may have moved. Idempotent."""

    async def clear(self, organisation_id: UUID) -> None:
        """Remove all vectors of an organisation, also where they cannot be read any more. Idempotent."""

    async def close(self) -> None:
        """Give back what is held open."""


@dataclass(frozen=True)
class Found:
    """What was recalled."""

    items: Sequence[Recalled] = ()
    missed: str = ""
    """Why vectors were not searched; empty when they were."""
    held_out: bool = False


class Memory(Protocol):
    """What the organisation of one run remembers."""

    async def recall(self, query: MemoryQuery, *, task: str) -> Found:
        """Return what fits a query, the best first, and note that agents of a task have seen it.

        An empty task stands for the whole project.
        """

    async def keep(self, drafts: Sequence[MemoryDraft]) -> Written:
        """Remember texts, masked. The same text again is the same item."""

    async def settle(self, outcome: ProjectOutcome) -> bool:
        """Credit or debit what the project has seen, once; return False where that is done already."""
