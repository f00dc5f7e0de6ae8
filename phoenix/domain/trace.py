"""A project's trace: what its events say of who did what, when, for how long and at what cost, as one tree.

Made from the event log alone, so it is there for a running project as for one that ended long ago, on any
machine and after any restart. A step that a dead worker left in the middle is `interrupted`; nothing is an
orphan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Event

SpanKind = Literal["run", "step", "model", "tool", "wait"]
SpanStatus = Literal["ok", "failed", "interrupted", "open"]

RUN_ENDS: Mapping[str, SpanStatus] = {"success": "ok", "failed": "failed", "cancelled": "failed"}
STEP_ENDS: Mapping[str, SpanStatus] = {"step_finished": "ok", "step_failed": "failed"}
SAID = ("model", "agent", "task", "tool_calls", "recorded", "error", "attempt", "cached", "flow", "status")
"""What a span tells of its event. Arguments and results of tools stay in the events."""


class Span(Frozen):
    """One thing that took time. A call's `began_at` is its end less its time."""

    id: int
    """The number of the event that began it, or told of it."""
    parent: int | None
    kind: SpanKind
    name: str
    run: str
    """The run's key: empty for the project's own, `build/1/T1` for a task's."""
    began_at: datetime
    seconds: float = Field(ge=0)
    status: SpanStatus
    cost_usd: Decimal | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    said: dict[str, Any] = {}


class Trace(Frozen):
    """All spans of a project, each after its parent, the project's own run first."""

    project_id: UUID
    spans: list[Span]

    def children(self) -> dict[int | None, list[Span]]:
        """Return the spans by parent, in the order in which they began."""
        found: dict[int | None, list[Span]] = {}
        for span in self.spans:
            found.setdefault(span.parent, []).append(span)
        return found

    def cost(self) -> Decimal | None:
        """Return the USD of all its calls; None where a live one has no known price."""
        calls = [s for s in self.spans if s.kind == "model" and not s.said.get("recorded")]
        prices = [span.cost_usd for span in calls]
        return None if None in prices else sum((price for price in prices if price is not None), Decimal(0))

    def counts(self) -> Counter[str]:
        """Return how many spans there are, by kind."""
        return Counter(span.kind for span in self.spans)


class _Draft:
    """A span that is still open."""

    def __init__(self, event: Event, kind: SpanKind, name: str, parent: int | None, run: str) -> None:
        self.event, self.kind, self.name, self.parent, self.run = event, kind, name, parent, run
        self.said = said(event)

    def end(self, at: datetime, status: SpanStatus, *, seconds: float | None = None, **more: Any) -> Span:
        """Return it ended; the time that its own event states goes before that between two events."""
        took = max(0.0, (at - self.event.at).total_seconds()) if seconds is None else seconds
        return Span(
            id=self.event.seq,
            parent=self.parent,
            kind=self.kind,
            name=self.name,
            run=self.run,
            began_at=self.event.at,
            seconds=round(took, 3),
            status=status,
            said=self.said | more,
        )


class _Reading:
    """Reads events in order."""

    def __init__(self) -> None:
        self.done: list[Span] = []
        self.runs: dict[UUID, _Draft] = {}
        self.ended: set[UUID] = set()
        self.keys: dict[UUID, str] = {}
        self.steps: dict[UUID, dict[str, _Draft]] = {}
        self.waits: dict[str, _Draft] = {}
        self.root: UUID | None = None

    def take(self, event: Event) -> None:
        """Take in one event."""
        run_id = event.run_id
        if run_id is None:
            return
        if run_id not in self.runs:
            self._begin_run(event, run_id)
        kind = event.kind
        if kind == "run_started":
            # What the attempt before it left in the middle, it does again.
            self._interrupt(run_id, event.at)
            self.runs[run_id].said |= {"attempts": event.data.get("attempt", 1)}
        elif kind == "step_started":
            self._begin_step(event, run_id)
        elif kind in STEP_ENDS:
            self._end_step(event, run_id)
        elif kind == "model_called":
            self.done.append(self._call(event, run_id))
        elif kind == "tool_called":
            name = str(event.data.get("tool", ""))
            self.done.append(
                _Draft(event, "tool", name, self._within(run_id), self.keys[run_id]).end(event.at, "ok")
            )
        elif kind in ("approval_requested", "approval_decided"):
            self._wait(event, run_id)
        elif kind == "run_finished":
            self._interrupt(run_id, event.at)
            self.ended.add(run_id)
            status = RUN_ENDS.get(str(event.data.get("status")), "failed")
            self.done.append(self.runs[run_id].end(event.at, status))

    def _begin_run(self, event: Event, run_id: UUID) -> None:
        key = str(event.data.get("key", ""))
        parent = None
        if self.root is None:
            self.root = run_id
        else:
            parent = self._within(self.root)
        name = key or str(event.data.get("flow", "project"))
        self.keys[run_id] = key
        self.runs[run_id] = _Draft(event, "run", name, parent, key)

    def _within(self, run_id: UUID) -> int:
        """Return what a call of this run is part of: the step that began last and has not ended."""
        open_steps = list(self.steps.get(run_id, {}).values())
        return open_steps[-1].event.seq if open_steps else self.runs[run_id].event.seq

    def _begin_step(self, event: Event, run_id: UUID) -> None:
        path = "/".join(map(str, event.data.get("path", ())))
        its = self.steps.setdefault(run_id, {})
        if (left := its.pop(path, None)) is not None:
            self.done.append(left.end(event.at, "interrupted"))
        run = self.runs[run_id].event.seq
        its[path] = _Draft(event, "step", path, run, self.keys[run_id])

    def _end_step(self, event: Event, run_id: UUID) -> None:
        path = "/".join(map(str, event.data.get("path", ())))
        draft = self.steps.get(run_id, {}).pop(path, None)
        if draft is None:
            return
        status, seconds = STEP_ENDS[event.kind], event.data.get("seconds")
        self.done.append(draft.end(event.at, status, seconds=seconds, **said(event)))

    def _call(self, event: Event, run_id: UUID) -> Span:
        data = event.data
        seconds, cost = float(data.get("seconds", 0)), data.get("cost_usd")
        span = _Draft(event, "model", str(data.get("agent", "")), self._within(run_id), self.keys[run_id])
        return span.end(event.at, "ok", seconds=seconds).model_copy(
            update={
                "began_at": event.at - timedelta(seconds=seconds),
                "cost_usd": None if cost is None else Decimal(str(cost)),
                "input_tokens": int(data.get("input_tokens", 0)),
                "output_tokens": int(data.get("output_tokens", 0)),
            }
        )

    def _wait(self, event: Event, run_id: UUID) -> None:
        approval = str(event.data.get("approval_id", ""))
        if event.kind == "approval_requested":
            name, run = str(event.data.get("name", "")), self.runs[run_id].event.seq
            self.waits[approval] = _Draft(event, "wait", name, run, self.keys[run_id])
        elif (draft := self.waits.pop(approval, None)) is not None:
            self.done.append(draft.end(event.at, "ok", by=event.data.get("by", "")))

    def _interrupt(self, run_id: UUID, at: datetime) -> None:
        self.done += [draft.end(at, "interrupted") for draft in self.steps.pop(run_id, {}).values()]

    def rest(self, now: datetime) -> Iterator[Span]:
        """Return what has not ended."""
        drafts = [draft for run_id, draft in self.runs.items() if run_id not in self.ended]
        drafts += [draft for its in self.steps.values() for draft in its.values()]
        yield from (draft.end(now, "open") for draft in [*drafts, *self.waits.values()])


def said(event: Event) -> dict[str, Any]:
    """Return what a span tells of its event."""
    return {name: event.data[name] for name in SAID if event.data.get(name) not in (None, "", [], False)}


def trace_of(project_id: UUID, events: Iterable[Event], *, now: datetime | None = None) -> Trace:
    """Return a project's trace.

    Args:
        project_id: Which.
        events: All of its events, in order.
        now: Until when what has not ended is counted; the time of the last event where it is left out.
    """
    reading, last = _Reading(), now
    for event in events:
        reading.take(event)
        last = now or event.at
    spans = [*reading.done, *(reading.rest(last) if last is not None else ())]
    return Trace(project_id=project_id, spans=sorted(spans, key=lambda span: span.id))
