"""A trace is one tree, whatever the events went through."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from phoenix.domain.run import Event
from phoenix.domain.trace import Trace, trace_of
from phoenix.domain.trace_figures import differences, figures

PROJECT, ROOT, CHILD = uuid4(), uuid4(), uuid4()
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Log:
    """Writes events a second apart."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, kind: str, run_id: UUID = ROOT, **data: Any) -> Log:
        number = len(self.events) + 1
        at = BEGAN + timedelta(seconds=number)
        self.events.append(Event(seq=number, project_id=PROJECT, run_id=run_id, kind=kind, data=data, at=at))
        return self

    def step(self, kind: str, *path: str, run_id: UUID = ROOT, **data: Any) -> Log:
        """Write what a step says."""
        return self(f"step_{kind}", run_id, path=list(path), step=path[-1], **data)

    @property
    def trace(self) -> Trace:
        """The trace of what was written."""
        return trace_of(PROJECT, self.events)


def begun() -> Log:
    """Return the events of a project that has just been taken."""
    return Log()("project_created", flow="develop")("run_started", key="", flow="develop", attempt=1)


CALL = {"agent": "code", "model": "openai:x", "input_tokens": 10, "output_tokens": 5, "seconds": 0.5}


def whole(trace: Trace) -> None:
    """Check that it is one tree, each span after its parent."""
    seen: set[int] = set()
    for span in trace.spans:
        assert (span.parent is None) is (not seen)
        assert span.parent is None or span.parent in seen
        seen.add(span.id)
    assert len(seen) == len(trace.spans)


def test_calls_are_within_their_steps_and_children_within_the_step_that_opened_them() -> None:
    """With their times, tokens and costs."""
    log = begun().step("started", "open")("run_opened", CHILD, key="build/1/T1")
    log.step("finished", "open", seconds=0.25)("run_started", CHILD, key="build/1/T1", flow="task", attempt=1)
    log.step("started", "code", run_id=CHILD)("model_called", CHILD, **CALL, cost_usd="0.02")
    log("tool_called", CHILD, tool="bash").step("finished", "code", run_id=CHILD, seconds=1.5)
    log("run_finished", CHILD, key="build/1/T1", status="success")("run_finished", key="", status="success")
    trace = log.trace
    whole(trace)
    names = {span.id: span.name for span in trace.spans}
    tree = [(span.kind, span.name, names.get(span.parent or 0), span.status) for span in trace.spans]
    assert tree == [
        ("run", "develop", None, "ok"),
        ("step", "open", "develop", "ok"),
        ("run", "build/1/T1", "open", "ok"),
        ("step", "code", "build/1/T1", "ok"),
        ("model", "code", "code", "ok"),
        ("tool", "bash", "code", "ok"),
    ]
    call = trace.spans[4]
    assert (call.cost_usd, call.input_tokens, call.output_tokens) == (Decimal("0.02"), 10, 5)
    assert call.began_at == log.events[7].at - timedelta(seconds=0.5)
    assert trace.spans[1].seconds == 0.25
    assert trace.cost() == Decimal("0.02")


def test_a_step_that_a_dead_worker_left_is_interrupted_and_its_calls_keep_their_place() -> None:
    """The next attempt's are beside it; nothing has lost its parent."""
    log = begun().step("started", "code")("model_called", **CALL, cost_usd="0.01")
    log("run_started", key="", attempt=2).step("started", "code")("model_called", **CALL, cost_usd="0.01")
    log.step("finished", "code", seconds=1.0)("run_finished", status="success")
    trace = log.trace
    whole(trace)
    steps = [span for span in trace.spans if span.kind == "step"]
    assert [(step.status, step.seconds) for step in steps] == [("interrupted", 2.0), ("ok", 1.0)]
    assert [span.parent for span in trace.spans if span.kind == "model"] == [step.id for step in steps]
    assert trace.spans[0].said["attempts"] == 2


def test_what_has_not_ended_is_open_until_the_last_event() -> None:
    """A project that waits for a person is as long as it waits."""
    log = begun().step("started", "approve")("approval_requested", approval_id="a", name="spec")
    now = log.events[-1].at + timedelta(hours=1)
    trace = trace_of(PROJECT, log.events, now=now)
    whole(trace)
    assert {span.kind: span.status for span in trace.spans} == dict.fromkeys(("run", "step", "wait"), "open")
    assert trace.spans[-1].seconds == 3600
    log("approval_decided", approval_id="a", by="ann@example.org")
    wait = next(span for span in log.trace.spans if span.kind == "wait")
    assert (wait.status, wait.seconds, wait.said["by"]) == ("ok", 1.0, "ann@example.org")


def test_failures_are_told() -> None:
    """Of a step that is tried again, and of the run."""
    log = begun().step("started", "code").step("failed", "code", error="model_timeout", seconds=2.0)
    log("run_finished", status="failed")
    assert [(s.status, s.said.get("error")) for s in log.trace.spans] == [
        ("failed", None),
        ("failed", "model_timeout"),
    ]


def test_a_price_that_is_not_known_makes_no_sum() -> None:
    """Recorded calls have none and need none."""
    log = begun()("model_called", **CALL, recorded=True, cost_usd=None)
    assert log.trace.cost() == 0
    log("model_called", **CALL, cost_usd=None)
    assert log.trace.cost() is None
    assert next(f for f in figures([log.trace]) if f.kind == "model").cost_usd is None


def test_figures_sum_up_and_differences_leave_times_out() -> None:
    """Two projects that did the same at different speed are alike."""
    quick = begun().step("started", "code")("model_called", **CALL, cost_usd="0.01")
    quick.step("finished", "code", seconds=1.0)("run_finished", status="success")
    slow = begun().step("started", "code")("model_called", **CALL | {"seconds": 9.0}, cost_usd="0.01")
    slow.step("finished", "code", seconds=30.0)("run_finished", status="success")
    step = figures([quick.trace, slow.trace])[0]
    assert (step.name, step.count, step.total_seconds, step.p50_seconds) == ("code", 2, 31.0, 15.5)
    assert differences(quick.trace, slow.trace) == []
    slow.step("started", "repair").step("finished", "repair", seconds=1.0)
    slow("model_called", **CALL, cost_usd="0.01")
    found = {(d.kind, d.name): d for d in differences(quick.trace, slow.trace)}
    assert set(found) == {("step", "repair"), ("model", "code")}
    assert found["step", "repair"].first is None
    calls = found["model", "code"]
    assert calls.first is not None
    assert calls.second is not None
    assert (calls.first.count, calls.second.count) == (1, 2)


def test_no_events_are_no_spans() -> None:
    """And no error."""
    assert trace_of(PROJECT, []).spans == []
