"""Spans as they were recorded: below the level of events, with git, sandbox and SQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from phoenix.domain.frozen import Frozen


class RecordedSpan(Frozen):
    """One span of a project's trace, with OpenTelemetry's ids."""

    id: str
    trace_id: str
    parent_id: str | None = None
    run_id: UUID | None = None
    attempt: int = 0
    """Of the run, that it was recorded in."""
    kind: str
    """`request`, `run`, `turn`, `step`, `model`, `tool`, `sandbox`, `git` or `sql`."""
    name: str
    began_at: datetime
    ended_at: datetime | None = None
    """None while it goes on."""
    status: Literal["open", "ok", "failed", "interrupted"]
    attributes: dict[str, Any] = {}

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it goes on."""
        return None if self.ended_at is None else (self.ended_at - self.began_at).total_seconds()


class SpanCounts(Frozen):
    """How many spans of a project are kept, and were not."""

    kept: int = Field(default=0, ge=0)
    left_out: int = Field(default=0, ge=0)
    """While a process was under load."""
    beyond_limit: int = Field(default=0, ge=0)


class SpanPage(Frozen):
    """A page of a project's spans, in the order in which they began."""

    items: list[RecordedSpan]
    next: str | None = None
    """The cursor of the next page."""
    counts: SpanCounts = SpanCounts()


def orphans(spans: Iterable[RecordedSpan]) -> list[RecordedSpan]:
    """Return the spans whose parent is not among them; one trace has one, the first, without any."""
    found = list(spans)
    ids = {span.id for span in found}
    tops = [span for span in found if span.parent_id is None or span.kind == "request"]
    lost = [span for span in found if span not in tops and span.parent_id not in ids]
    return [*lost, *tops[1:]]
