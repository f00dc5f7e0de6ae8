"""What an organisation remembers of its projects: what is written, asked for, recalled, and came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from phoenix.domain.frozen import Frozen, Text, digest_of
from phoenix.domain.lessons import LessonKind, Tag
from phoenix.domain.personal import mask_personal
from phoenix.telemetry.redaction import mask_secrets

MAX_MEMORY_CHARS = 8000
MAX_MEMORY_TAGS = 12
CHARS_A_TOKEN = 4
RANK_CONSTANT = 10
"""Of reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009, who take 60): lists here have 50 places."""
PINNED_WEIGHT = 1.5
TRIALS_BEFORE_SINKING = 4
LEAST_SHARE = 0.25
"""An item that helped in a smaller share of the projects that saw it expires."""

Origin = Literal["own", "foreign"]
"""foreign: of a repository or a file that Phoenix did not write; it may hold anything."""
Language = Annotated[str, StringConstraints(pattern=r"^[a-z0-9+#.-]{0,30}$")]
Licence = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.+-]{0,40}$")]
"""An SPDX identifier; empty when it is not known."""

PERMISSIVE: tuple[str, ...] = ("MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ISC", "Unlicense")


class MemoryDraft(Frozen):
    """Something to remember."""

    kind: LessonKind
    text: Annotated[Text, Field(max_length=MAX_MEMORY_CHARS)]
    tags: list[Tag] = Field(default=[], max_length=MAX_MEMORY_TAGS)
    language: Language = ""
    """Of programming; empty for what is of none."""
    licence: Licence = ""
    origin: Origin = "own"
    project: UUID | None = None
    commit: str = ""
    agent: str = ""
    """Who wrote it."""

    def address(self) -> str:
        """Return its content address: one organisation keeps the same text once."""
        return digest_of({"kind": self.kind, "text": " ".join(self.text.split())})

    def masked(self) -> tuple[MemoryDraft, int]:
        """Return it without what looks like secrets and personal data, and how much was masked."""
        text, secrets = mask_secrets(self.text)
        text, personal = mask_personal(text)
        return self.model_copy(update={"text": text}), secrets + personal


class MemoryItem(Frozen):
    """Something that an organisation remembers."""

    id: UUID
    kind: LessonKind
    text: str
    tags: list[str]
    language: str
    licence: str
    origin: Origin
    project_id: UUID | None
    """Where it was learned; None when a person brought it."""
    commit: str
    agent: str
    pinned: bool
    """It stays, and comes before others like it."""
    helped: int
    """Projects that saw it and went well at first try."""
    failed: int
    """Projects that saw it and did not."""
    version: int
    created_at: datetime
    recalled_at: datetime | None
    expires_at: datetime | None

    @property
    def usefulness(self) -> float:
        """Return how much it weighs for what came of it: 1 when nothing is known, between 0 and 2."""
        return 2 * (self.helped + 2) / (self.helped + self.failed + 4)


class MemoryQuery(Frozen):
    """What an agent wants to be reminded of. Empty lists allow everything."""

    text: str
    kinds: list[LessonKind] = []
    languages: list[str] = []
    """Items of none of them are left out; those of no language stay."""
    licences: list[str] = list(PERMISSIVE)
    """Foreign snippets under other licences, or unknown ones, are left out."""
    limit: int = Field(default=5, ge=1, le=50)
    max_tokens: int = Field(default=1500, ge=1)
    """Of all texts together, at four characters a token."""


class Recalled(Frozen):
    """An item as an agent is reminded of it."""

    id: UUID
    kind: LessonKind
    text: str
    origin: Origin
    licence: str = ""
    project_id: UUID | None = None
    why: str
    """How it was found, and what came of it before."""


class Recall(Frozen):
    """What an agent was reminded of when it asked: the same for every repetition of its step."""

    asked: str
    """Digest of who asked for what."""
    agent: str
    task: str = ""
    items: list[Recalled] = []
    missed: str = ""
    """Why vectors were not searched; empty when they were."""
    held_out: bool = False
    """The project is one of those that run without memory, to compare with."""


class TaskOutcome(Frozen):
    """How a task went."""

    task: str
    first_try: bool
    """It was accepted without having been sent back."""


class ProjectOutcome(Frozen):
    """How a delivered project went: what the worth of memory is measured by."""

    tasks: list[TaskOutcome]
    calls: int
    """Of models, in all."""
    cost_usd: Decimal | None

    def went_well(self, seen_by: Sequence[str]) -> bool:
        """Tell whether more than half of the tasks that saw an item succeeded at first try.

        Args:
            seen_by: Tasks; an empty name stands for the whole project.
        """
        seen = [t for t in self.tasks if "" in seen_by or t.task in seen_by]
        return bool(seen) and 2 * sum(t.first_try for t in seen) > len(seen)


class Written(Frozen):
    """What became of what was to be remembered."""

    stored: list[UUID] = []
    known: int = 0
    """Of the same text as something that is remembered already."""
    masked: int = 0
    """Secrets and personal data that were masked."""
    refused: str = ""
    """Why some were not stored; empty when all were."""
    unindexed: str = ""
    """Why their vectors are not stored yet; they are found by their words meanwhile."""


class Hit(Frozen):
    """An item that was found, with how."""

    item: MemoryItem
    why: str
    score: float


def is_held_out(project_id: UUID, share: float) -> bool:
    """Tell whether a project runs without memory: the same answer every time, for such a share of all."""
    place = int.from_bytes(hashlib.sha256(project_id.bytes).digest()[:8], "big") / 2**64
    return place < share


def fuse(
    items: Mapping[UUID, MemoryItem],
    dense: Sequence[tuple[UUID, float]],
    words: Sequence[UUID],
    *,
    words_weight: float = 1.0,
) -> list[Hit]:
    """Return items by reciprocal rank over both lists, weighed by what came of them, the best first.

    Args:
        items: Those that may be returned.
        dense: Ids with their similarity, the nearest first.
        words: Ids by full-text rank, the best first.
        words_weight: What a place in that list counts, beside one in the other.
    """
    near = {i: (rank, s) for rank, (i, s) in enumerate(((i, s) for i, s in dense if i in items), 1)}
    said = {i: rank for rank, i in enumerate((i for i in words if i in items), 1)}
    hits = []
    for item_id in {**near, **said}:
        item, score, how = items[item_id], 0.0, []
        if item_id in near:
            rank, similarity = near[item_id]
            score += 1 / (RANK_CONSTANT + rank)
            how.append(f"{_ordinal(rank)} by meaning ({similarity:.2f})")
        if item_id in said:
            score += words_weight / (RANK_CONSTANT + said[item_id])
            how.append(f"{_ordinal(said[item_id])} by words")
        if item.helped or item.failed:
            how.append(f"helped in {item.helped} of {item.helped + item.failed} projects")
        if item.pinned:
            how.append("pinned")
        score *= item.usefulness * (PINNED_WEIGHT if item.pinned else 1.0)
        hits.append(Hit(item=item, why=", ".join(how), score=score))
    return sorted(hits, key=lambda hit: (-hit.score, str(hit.item.id)))


def within(hits: Sequence[Hit], query: MemoryQuery) -> list[Hit]:
    """Return the first hits that fit the query's number and tokens; one that is too long is passed over."""
    kept: list[Hit] = []
    left = query.max_tokens * CHARS_A_TOKEN
    for hit in hits:
        if len(kept) < query.limit and len(hit.item.text) <= left:
            kept.append(hit)
            left -= len(hit.item.text)
    return kept


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
