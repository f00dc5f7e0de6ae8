"""What a user asks for, and how it is sized."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from phoenix.domain.frozen import Digest, Frozen, Text

MAX_REQUIREMENT_CHARS = 100_000

Path = Literal["auto", "short", "full"]
Size = Literal["small", "large"]


class Request(Frozen):
    """A requirement as its author wrote it."""

    text: Text = Field(max_length=MAX_REQUIREMENT_CHARS)
    repository: str | None = None
    """Path or URL of an existing repository; None starts an empty one."""
    path: Path = "auto"


class Sized(Frozen):
    """A request with the way it will take: `small` goes the short path, `large` the full one."""

    request: Digest
    size: Size
    reason: str = ""


class Question(Frozen):
    """One clarifying question; `default` is what is assumed when nobody answers."""

    id: str = Field(pattern=r"^Q[1-9][0-9]*$")
    text: Text
    default: Text
    options: list[str] = []


class Questions(Frozen):
    """At most five questions, asked at once."""

    request: Digest
    items: list[Question] = Field(default=[], max_length=5)


class Answer(Frozen):
    """An answer to one question; `assumed` when its default was taken."""

    question: str
    text: Text
    assumed: bool = False


class Answers(Frozen):
    """Answers to all questions of a request, with the questions they answer."""

    request: Digest
    questions: list[Question] = []
    items: list[Answer] = []
