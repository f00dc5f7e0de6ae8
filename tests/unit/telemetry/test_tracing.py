"""Spans: how they hang together, what is left out under load, and what it costs where nothing records."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from phoenix.errors import DatabaseUnavailable
from phoenix.telemetry import tracing
from phoenix.telemetry.metrics import TRACE_LEVEL
from phoenix.telemetry.recorder import (
    ALL,
    CALM_SECONDS,
    LATE_LOOKS,
    LEAST,
    LITTLE,
    Recorder,
    RecorderOptions,
)
from phoenix.telemetry.spans import Span, id_of, is_within, read_traceparent, traceparent_of

TRACE, REMOTE = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PROJECT = "6f6d2b9e-0f5e-4f3c-9d0a-8a8e4a5f0001"
RUN = "6f6d2b9e-0f5e-4f3c-9d0a-8a8e4a5f0002"


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.spans: dict[str, Span] = {}
        self.order: list[tuple[str, str]] = []
        self.left_out: dict[str, int] = {}
        self.away = False

    def write(self, spans: Sequence[Span], left_out: Mapping[str, int]) -> int:
        if self.away:
            raise DatabaseUnavailable
        for span in spans:
            self.order.append(("kept", f"{span.kind} {span.status}"))
            self.spans[span.id] = span
        for project, count in left_out.items():
            self.left_out[project] = self.left_out.get(project, 0) + count
        return len(spans)

    def abandoned(self) -> list[Span]:
        return []

    def close(self) -> None:
        return None


class Sent:
    """A receiver that notes the order."""

    def __init__(self, store: Kept) -> None:
        self.store, self.spans, self.is_away = store, list[Span](), False

    def send(self, spans: Sequence[Span]) -> bool:
        if self.is_away:
            return False
        for span in spans:
            self.store.order.append(("sent", f"{span.kind} {span.status}"))
        self.spans += spans
        return True

    def close(self) -> None:
        return None


def subject(traceparent: str = "", *, attempt: int = 1) -> tracing.Subject:
    """Return a project's own run."""
    return tracing.Subject(PROJECT, traceparent, RUN, "", "", "develop", attempt, datetime.now(UTC))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"00-{'0' * 32}-{REMOTE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{REMOTE}-01",
        f"00-{TRACE}-{REMOTE}-01-more",
        f"00-{TRACE.upper()}-{REMOTE}-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(text: str) -> None:
    """As W3C has it: zeros, a forbidden version and more at the end of the first version are none."""
    assert read_traceparent(text) is None


def test_a_request_continues_the_trace_of_its_header() -> None:
    """Its parent is the client's span, and it answers with its own."""
    with tracing.installed(Recorder(Kept())), tracing.request("GET", f"00-{TRACE}-{REMOTE}-01") as span:
        assert span is not None
        assert (span.trace, span.parent, span.is_sampled) == (TRACE, REMOTE, True)
        found = read_traceparent(traceparent_of(span))
        assert found is not None
        assert (found.trace, found.id) == (TRACE, span.id)


async def test_a_run_hangs_below_the_request_that_launched_it() -> None:
    """Request, run, turn, step, tool and command are one tree, although a request is over long before."""
    store = Kept()
    recorder = Recorder(store)
    with tracing.installed(recorder):
        with tracing.request("POST", "") as asked, tracing.leaf("sql", "transaction"):
            header = tracing.launches(PROJECT)
        with tracing.turn(subject(header)):
            tracing.step_begins("code", ("large", "code"), 1)
            with tracing.tool("edit_file"), tracing.leaf("git", "git add"):
                pass
            tracing.told("model", "chat m", 0.5, attributes={"gen_ai.request.model": "m"})
            tracing.step_ends()
            tracing.run_ended("success")
    recorder.flush()
    assert asked is not None
    of = {span.kind: span for span in store.spans.values()}
    parents = {kind: store.spans[span.parent].kind for kind, span in of.items() if span.parent}
    assert parents == {
        "sql": "request", "run": "request", "turn": "run", "step": "turn", "tool": "step",
        "git": "tool", "model": "step",
    }  # fmt: skip
    assert {span.trace for span in store.spans.values()} == {asked.trace}
    assert {span.status for span in store.spans.values()} == {"ok"}
    assert of["model"].ended - of["model"].began == 500_000_000


async def test_a_step_that_is_cut_is_interrupted_and_one_that_waits_is_not() -> None:
    """A turn ends what is open in it."""
    for error, status in ((None, "ok"), (asyncio.CancelledError(), "interrupted")):
        store = Kept()
        recorder = Recorder(store)
        with tracing.installed(recorder):
            try:
                with tracing.turn(subject()):
                    tracing.step_begins("spec", ("spec",), 1)
                    if error is not None:
                        raise error
            except asyncio.CancelledError:
                pass
        recorder.flush()
        assert {s.kind: s.status for s in store.spans.values()} == {
            "run": "open",
            "turn": status,
            "step": status,
        }


async def test_a_parent_is_stored_before_its_parts_are_sent_and_ends_after_it_was_sent() -> None:
    """Whoever finds it abandoned can then complete what a receiver has seen."""
    store = Kept()
    sent = Sent(store)
    recorder = Recorder(store, sent)
    with tracing.installed(recorder), tracing.turn(subject()):
        tracing.step_begins("code", ("code",), 1)
        with tracing.leaf("git", "git add"):
            pass
        recorder.flush()
        assert store.order.index(("kept", "step open")) < store.order.index(("sent", "git ok"))
        tracing.step_ends()
        recorder.flush()
    assert store.order.index(("sent", "step ok")) < store.order.index(("kept", "step ok"))


async def test_what_a_receiver_does_not_take_is_sent_later_parents_first() -> None:
    """A collector that is away for a while loses nothing."""
    store = Kept()
    sent = Sent(store)
    sent.is_away = True
    recorder = Recorder(store, sent)
    with tracing.installed(recorder), tracing.turn(subject()):
        tracing.step_begins("code", ("code",), 1)
        with tracing.leaf("git", "git add"):
            pass
        tracing.step_ends()
        recorder.flush()
    assert sent.spans == []
    sent.is_away = False
    recorder._send_at = 0.0
    recorder.flush()
    assert [span.kind for span in sent.spans] == ["turn", "step", "git"]


async def test_spans_wait_while_the_database_is_away() -> None:
    """They are written once it is back, in order."""
    store = Kept()
    recorder = Recorder(store)
    store.away = True
    with tracing.installed(recorder), tracing.turn(subject()):
        with pytest.raises(DatabaseUnavailable):
            recorder.flush()
        store.away = False
        recorder.flush()
    assert {span.kind for span in store.spans.values()} == {"run", "turn"}


def test_under_load_details_go_first_and_come_back_by_themselves() -> None:
    """A filling queue, or a late event loop, takes details, then all but turns; calm gives them back."""
    recorder = Recorder(Kept(), options=RecorderOptions(bound=100))
    with capture_logs() as logs:
        for _ in range(30):
            recorder.give(Span(TRACE, "1" * 16, "", "git", "git", 1, 2))
        recorder.look(0.0, now=0.0)
        assert recorder.level == LITTLE
        assert not recorder.wants("git")
        assert recorder.wants("model")
        for n in range(LATE_LOOKS):
            recorder.look(1.0, now=0.1 * n)
        assert recorder.level == LEAST
        assert not recorder.wants("step")
        assert recorder.wants("turn")
        recorder.flush()
        now = 10.0
        for _ in range(LATE_LOOKS + 4):
            recorder.look(0.0, now=now)
            now += CALM_SECONDS
    assert recorder.level == ALL
    assert TRACE_LEVEL._value.get() == ALL
    assert [(each["event"], each["level"]) for each in logs] == [
        ("tracing_degraded", LITTLE),
        ("tracing_degraded", LEAST),
        ("tracing_restored", LITTLE),
        ("tracing_restored", ALL),
    ]


def test_one_long_step_of_the_loop_is_no_load() -> None:
    """Only a loop that is late again and again is."""
    recorder = Recorder(Kept())
    for lag in (0.0, 3.0, 0.0, 3.0, 3.0, 3.0):
        recorder.look(lag)
    assert recorder.level == ALL


async def test_what_is_left_out_is_counted_for_its_project() -> None:
    """The results of the body are the same."""
    store = Kept()
    recorder = Recorder(store)
    recorder.level = LEAST
    with tracing.installed(recorder), tracing.turn(subject()):
        tracing.step_begins("code", ("code",), 1)
        with tracing.tool("edit_file"), tracing.leaf("git", "git add") as span:
            span.set(files=3)
        tracing.step_ends()
    recorder.flush()
    assert store.left_out == {PROJECT: 3}
    assert {span.kind for span in store.spans.values()} == {"run", "turn"}


def test_a_full_queue_drops_details_and_never_parents() -> None:
    """So that nothing that is kept lacks its parent."""
    store = Kept()
    recorder = Recorder(store, options=RecorderOptions(bound=1))
    for n, kind in enumerate(("git", "sql", "step")):
        recorder.give(Span(TRACE, f"{n:016x}", "", kind, kind, 1, 2, project=PROJECT))
    recorder.flush()
    assert {span.kind for span in store.spans.values()} == {"git", "step"}
    assert store.left_out == {PROJECT: 1}


async def test_an_unsampled_trace_is_followed_and_not_recorded() -> None:
    """Who asked not to be recorded is not; logs name the trace all the same."""
    store = Kept()
    recorder = Recorder(store)
    with tracing.installed(recorder):
        with tracing.request("POST", f"00-{TRACE}-{REMOTE}-00"):
            header = tracing.launches(PROJECT)
            assert tracing.add_trace_ids(None, "", {"event": "x"})["trace_id"] == TRACE
        with tracing.turn(subject(header)):
            tracing.step_begins("code", ("code",), 1)
            tracing.step_ends()
    recorder.flush()
    assert header.endswith("-00")
    assert store.spans == {}


def test_without_a_recorder_nothing_is_done() -> None:
    """The same object serves every body, and logs get no ids."""
    assert tracing.leaf("git", "git add") is tracing.leaf("sql", "transaction")
    with tracing.request("GET", "") as span:
        assert span is None
    assert tracing.traceparent() == ""
    assert tracing.add_trace_ids(None, "", {"event": "x"}) == {"event": "x"}


def test_every_process_names_and_samples_alike() -> None:
    """Ids of runs and turns come from what they are of; a share of traces from their ids."""
    assert id_of("turn", RUN, 1) == id_of("turn", RUN, 1) != id_of("turn", RUN, 2)
    found = [is_within(f"{n:016x}{n * 2**54:016x}", 0.5) for n in range(1000)]
    assert found.count(True) == 512
