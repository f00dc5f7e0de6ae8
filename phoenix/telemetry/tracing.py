"""What code calls that does something worth a span. Without a recorder, each call costs next to nothing.

Attributes are names, counts and codes. Prompts, answers, commands, arguments, paths and secrets are never in
them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any

from phoenix.telemetry.recorder import Recorder
from phoenix.telemetry.spans import (
    DETAIL,
    NAME_CHARS,
    Attribute,
    Span,
    Status,
    id_of,
    is_within,
    new_id,
    new_trace,
    read_traceparent,
    traceparent_of,
)

MOST_HELD = 200
"""Details of one request that are kept."""
NS = 1_000_000_000

_recorders: list[Recorder] = []
_current: ContextVar[Span | None] = ContextVar("phoenix_span", default=None)
_turn: ContextVar[_Turn | None] = ContextVar("phoenix_turn", default=None)
_step: ContextVar[Span | None] = ContextVar("phoenix_step", default=None)


@contextmanager
def installed(recorder: Recorder) -> Iterator[None]:
    """Record the spans of this process within the body."""
    _recorders.append(recorder)
    try:
        yield
    finally:
        _recorders.remove(recorder)


def recorder_in_use() -> Recorder | None:
    """Return what records spans in this process; None where nothing does."""
    return _recorders[-1] if _recorders else None


def current() -> Span | None:
    """Return the span that goes on here."""
    return _current.get()


def traceparent() -> str:
    """Return the header that names what goes on here; empty where nothing is traced."""
    span = _current.get()
    return "" if span is None else traceparent_of(span)


def apart() -> None:
    """Leave the present trace for good: for tasks that work for everybody."""
    _current.set(None)
    _turn.set(None)
    _step.set(None)


def add_trace_ids(_logger: Any, _name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `trace_id` and `span_id` to a log event, where something is traced (a structlog processor)."""
    if (span := _current.get()) is not None:
        event_dict.setdefault("trace_id", span.trace)
        event_dict.setdefault("span_id", span.id)
    return event_dict


class Leaf:
    """A span without children; leaving it ends it."""

    __slots__ = ("_parent", "_recorder", "_span")

    def __init__(self, recorder: Recorder | None, span: Span | None, parent: Span | None) -> None:
        self._recorder, self._span, self._parent = recorder, span, parent

    def set(self, **attributes: Attribute) -> None:
        """Say more of it; two underscores stand for a dot."""
        if self._span is not None:
            self._span.attributes |= _dotted(attributes)

    def __enter__(self) -> Leaf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._span is None or self._recorder is None or self._parent is None:
            return
        self._span.end(_outcome(self._span, error))
        _give(self._recorder, self._span, self._parent)


_NOTHING = Leaf(None, None, None)


def leaf(kind: str, name: str, **attributes: Attribute) -> Leaf:
    """Return a span of what goes on within a body, as part of what goes on around it.

    Args:
        kind: `sql`, `git`, `sandbox` or `model`.
        name: What it is called; never a text from outside.
        attributes: What it says; two underscores stand for a dot.
    """
    found = _place(kind)
    if found is None:
        return _NOTHING
    recorder, parent = found
    return Leaf(recorder, _below(parent, kind, name, _dotted(attributes)), parent)


def told(
    kind: str, name: str, seconds: float, *, status: Status = "ok", attributes: dict[str, Attribute]
) -> None:
    """Record what has just ended and took so long."""
    found = _place(kind)
    if found is None:
        return
    recorder, parent = found
    span = _below(parent, kind, name, attributes)
    span.end(status)
    span.began = span.ended - int(max(seconds, 0.0) * NS)
    _give(recorder, span, parent)


def _place(kind: str) -> tuple[Recorder, Span] | None:
    """Return where a leaf belongs; None where it is not recorded."""
    parent = _current.get()
    if parent is None or not parent.is_sampled or not _recorders:
        return None
    recorder = _recorders[-1]
    if not recorder.wants(kind):
        recorder.leave_out(parent.project)
        return None
    return recorder, parent


@contextmanager
def tool(name: str) -> Iterator[None]:
    """Record the call of a tool, with what it does as its parts."""
    parent, recorder = _current.get(), recorder_in_use()
    if parent is None or recorder is None or not parent.is_sampled:
        yield
        return
    if not recorder.wants("tool"):
        recorder.leave_out(parent.project)
        yield
        return
    said: dict[str, Attribute] = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name}
    span = _below(parent, "tool", f"execute_tool {name}", said)
    recorder.begin(span)
    token = _current.set(span)
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _current.reset(token)
        span.end(_outcome(span, error))
        recorder.give(span)


@contextmanager
def request(method: str, header: str) -> Iterator[Span | None]:
    """Record an HTTP request, in the trace that its `traceparent` names or in one of its own.

    It is exported once it has ended, with its parts. Where it launches a project it is kept as well.
    """
    recorder = recorder_in_use()
    if recorder is None:
        yield None
        return
    remote = read_traceparent(header) if header else None
    trace = new_trace() if remote is None else remote.trace
    sampled = is_within(trace, recorder.share) if remote is None else remote.is_sampled
    span = Span(
        trace, new_id(), "" if remote is None else remote.id, "request", method, time.time_ns(),
        is_sampled=sampled, attributes={"http.request.method": method}, held=[],
    )  # fmt: skip
    token = _current.set(span)
    try:
        yield span
    finally:
        _current.reset(token)
        span.end()
        held, span.held = span.held or [], None
        is_wanted = span.project or (recorder.exports and recorder.wants("request"))
        if sampled and is_wanted:
            recorder.give(span)
            for part in held:
                part.project = span.project
                recorder.give(part)


def launches(project_id: object) -> str:
    """Let a project belong to the trace of the request that launches it; return what names its parent."""
    span = _current.get()
    if span is None or not _recorders:
        return ""
    if span.kind == "request" and not span.project:
        span.project = str(project_id)
    return traceparent_of(span)


@dataclass(frozen=True)
class Subject:
    """The run that a turn is of, and where its trace comes from."""

    project: str
    traceparent: str
    """What launched the project; empty for what nothing traced did."""
    run: str
    parent_run: str
    """Empty for the project's own."""
    key: str
    flow: str
    attempt: int
    created_at: datetime


class _Turn:
    """A turn that goes on, and what began in it and has not ended."""

    def __init__(self, recorder: Recorder, run: Span, span: Span) -> None:
        self.recorder, self.run, self.span = recorder, run, span
        self.open: dict[str, Span] = {}
        self.run_ends: Status | None = None


@contextmanager
def turn(subject: Subject) -> Iterator[None]:
    """Record that a worker has a run in hand."""
    recorder = recorder_in_use()
    if recorder is None:
        yield
        return
    made = _begun(recorder, subject)
    tokens: tuple[Token[Span | None], Token[_Turn | None]] = (_current.set(made.span), _turn.set(made))
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _current.reset(tokens[0])
        _turn.reset(tokens[1])
        if made.span.is_sampled:
            _finish(made, error)


def _begun(recorder: Recorder, subject: Subject) -> _Turn:
    """Return a turn whose parents are written down."""
    remote = read_traceparent(subject.traceparent)
    trace = subject.project.replace("-", "") if remote is None else remote.trace
    sampled = is_within(trace, recorder.share) if remote is None else remote.is_sampled
    of: dict[str, Any] = {"project": subject.project, "run": subject.run, "is_sampled": sampled}
    above = id_of("run", subject.parent_run) if subject.parent_run else ""
    began = int(subject.created_at.timestamp() * NS)
    if remote is not None and not subject.parent_run:
        above = remote.id
        # Its own process ends it; where that died, whoever finds it open does.
        asked = Span(trace, remote.id, "", "request", "launch", began, **of)
        if sampled:
            recorder.begin(asked)
    name = subject.key or subject.flow
    said: dict[str, Attribute] = {"phoenix.flow": subject.flow, "phoenix.run.id": subject.run}
    said |= {"phoenix.project.id": subject.project}
    run = Span(trace, id_of("run", subject.run), above, "run", name, began, **of, attributes=dict(said))
    span = Span(
        trace, id_of("turn", subject.run, subject.attempt), run.id, "turn", f"turn {name}"[:NAME_CHARS],
        time.time_ns(), attempt=subject.attempt, **of,
        attributes=said | {"phoenix.run.attempt": subject.attempt},
    )  # fmt: skip
    if sampled:
        recorder.begin(run)
        recorder.begin(span)
    return _Turn(recorder, run, span)


def _finish(made: _Turn, error: BaseException | None) -> None:
    """End a turn, what it left open, and its run where that is over."""
    outcome = _outcome(made.span, error)
    for step in made.open.values():
        step.attributes["phoenix.outcome"] = "left" if error is None else "cut"
        # A step that people are waited for in is left as it should be, and begins again with their answer.
        step.end("ok" if error is None and made.run_ends != "failed" else "interrupted")
        made.recorder.give(step)
    made.span.end("failed" if made.run_ends == "failed" else outcome)
    made.recorder.give(made.span)
    if made.run_ends is not None:
        made.run.end(made.run_ends)
        made.recorder.give(made.run)


def run_ended(status: str, error_code: str = "") -> None:
    """Say that the run in hand is over: `success`, or what else its row says."""
    made = _turn.get()
    if made is not None:
        made.run_ends = "ok" if status == "success" else "failed"
        if error_code:
            made.run.attributes["error.type"] = error_code


def step_begins(step: str, path: tuple[str, ...], attempt: int) -> None:
    """Let what follows in this task be part of a step."""
    made = _turn.get()
    if made is None or not made.span.is_sampled:
        return
    if not made.recorder.wants("step"):
        made.recorder.leave_out(made.span.project)
        _step.set(None)
        _current.set(made.span)
        return
    said: dict[str, Attribute] = {"phoenix.step": step, "phoenix.step.attempt": attempt}
    span = _below(made.span, "step", "/".join(path)[:NAME_CHARS], said)
    made.open[span.id] = span
    made.recorder.begin(span)
    _step.set(span)
    _current.set(span)


def step_ends(error: BaseException | None = None, *, cached: bool = False) -> None:
    """End the step that began in this task."""
    made, span = _turn.get(), _step.get()
    if made is None or span is None or span.id not in made.open:
        return
    del made.open[span.id]
    if cached:
        span.attributes["phoenix.cached"] = True
    span.end(_outcome(span, error))
    made.recorder.give(span)
    _step.set(None)
    _current.set(made.span)


def _below(parent: Span, kind: str, name: str, attributes: dict[str, Attribute]) -> Span:
    return Span(
        parent.trace, new_id(), parent.id, kind, name, time.time_ns(), project=parent.project,
        run=parent.run, attempt=parent.attempt, attributes=attributes,
    )  # fmt: skip


def _give(recorder: Recorder, span: Span, parent: Span) -> None:
    """Hand over a leaf that has ended; a request's parts wait for its end."""
    if parent.held is None:
        recorder.give(span)
    elif len(parent.held) < MOST_HELD:
        parent.held.append(span)


def _outcome(span: Span, error: BaseException | None) -> Status:
    if error is None:
        return "ok"
    span.attributes["error.type"] = str(getattr(error, "code", "") or type(error).__name__)
    return "interrupted" if isinstance(error, asyncio.CancelledError) else "failed"


def _dotted(attributes: dict[str, Attribute]) -> dict[str, Attribute]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


__all__ = [
    "DETAIL",
    "Leaf",
    "Subject",
    "add_trace_ids",
    "apart",
    "current",
    "installed",
    "launches",
    "leaf",
    "recorder_in_use",
    "request",
    "run_ended",
    "step_begins",
    "step_ends",
    "told",
    "tool",
    "traceparent",
    "turn",
]
