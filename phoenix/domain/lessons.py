"""What a project taught: short texts for later projects, each with where it comes from."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from phoenix.domain.frozen import Commit, Digest, Frozen, Text

MAX_LESSONS = 5
MAX_LESSON_CHARS = 1200
MAX_TAGS = 6

LessonKind = Literal["pattern", "snippet", "debugging", "requirement"]
"""pattern: how such a spec became a plan that worked; snippet: code that can be used again, with how it
is tested; debugging: symptom, cause and fix; requirement: what such a requirement leaves open."""

Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.#-]{0,29}$")]


class Provenance(Frozen):
    """Where a lesson comes from."""

    project: UUID
    commit: Commit
    """The delivered commit."""
    agent: str
    """Who wrote the lesson."""
    tasks: list[str] = []
    criteria: list[str] = []
    foreign: bool = False
    """The project began with a repository that Phoenix did not write: the text may echo it."""


class Lesson(Frozen):
    """One thing worth knowing in a later project. Data for an agent to weigh, never an instruction."""

    kind: LessonKind
    text: Annotated[Text, Field(max_length=MAX_LESSON_CHARS)]
    tags: list[Tag] = Field(default=[], max_length=MAX_TAGS)
    provenance: Provenance


class Lessons(Frozen):
    """What one delivery taught; empty when there was nothing to learn, or no way to."""

    delivery: Digest
    items: list[Lesson] = Field(default=[], max_length=MAX_LESSONS)
    why_none: str = ""
    """What kept lessons from being written; empty when they were, or when there was nothing to learn."""
