"""The board, the documents and the screens."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from rich.console import Console, RenderableType

from phoenix.cli.board import board, elapsed, spent
from phoenix.cli.documents import of_kind
from phoenix.cli.screen import JsonScreen, LiveScreen, PlainScreen
from phoenix.cli.view import View
from phoenix.domain.evidence import CriterionEvidence, Evidence, SuiteResult, TestResult
from tests.unit.cli.event_feed import BEGAN, Feed
from tests.unit.cli.test_forms import PLAN, SPEC

DIGEST = "sha256:" + "0" * 64


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=100, markup=False, highlight=False, force_terminal=terminal), file


def drawn(what: RenderableType) -> str:
    made, file = console()
    made.print(what)
    return file.getvalue()


def busy() -> Feed:
    feed = Feed()
    feed.add("run_started", key="")
    feed.add("board_changed", round=1, tasks=[{"task": "T1", "title": "Store", "status": "running"}])
    child = feed.child("build/1/T1")
    feed.add("step_started", child, step="code")
    feed.add("tool_called", child, tool="bash", arguments={"command": "pytest [red]"}, result="")
    feed.add("model_called", input_tokens=1200, output_tokens=30, cost_usd="0.0123")
    feed.add(
        "build_verified", round=1, passed=False, criteria={"C1": True, "C2": False}, problems=["x broke"]
    )
    return feed


def test_the_board_shows_all_that_runs() -> None:
    """Step, time, tasks, tool calls, tests, cost and problems."""
    shown = drawn(board(busy().view, BEGAN + timedelta(seconds=100)))
    for part in (
        "A list",
        "model openai:m; sandbox bubblewrap",
        "> T1 code  1 min 36 s",
        "Store",
        "bash pytest [red]",
        "1 of 2 criteria hold",
        "x broke",
        "1 model calls, 1,200 tokens in, 30 out; $0.0123",
    ):
        assert part in shown


def test_a_recording_is_said_plainly() -> None:
    """Nobody takes it for a model at work."""
    view = View(model="recorded:/x/recording.jsonl", sandbox="bubblewrap")
    assert "RECORDING replayed, no model is asked" in drawn(board(view, BEGAN))


def test_a_machine_without_isolation_is_said_plainly() -> None:
    """On every screen."""
    assert "NO SANDBOX" in drawn(board(View(sandbox="host"), BEGAN))


def test_money_spent_by_a_replay_is_none() -> None:
    """The recording's figures are tokens only."""
    feed = Feed()
    feed.add("model_called", input_tokens=5, output_tokens=1, cost_usd="1.0", recorded=True)
    assert "nothing spent" in spent(feed.view)
    feed.add("model_called", input_tokens=5, output_tokens=1, cost_usd=None)
    assert "price unknown" in spent(feed.view)


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (59.9, "59 s"), (65, "1 min 05 s"), (3725, "1 h 02 min")]
)
def test_times_are_words(seconds: float, words: str) -> None:
    """Short ones are exact, long ones not."""
    assert elapsed(seconds) == words


def test_a_spec_is_requirements_with_criteria() -> None:
    """Read as prose, not as data."""
    shown = drawn(of_kind("spec", SPEC.model_dump(mode="json")))
    assert "R1  Add" in shown
    assert "C1  An item is kept: yes" in shown
    assert "sha256" not in shown


def test_a_plan_is_tasks_with_what_they_wait_for() -> None:
    """The order of work can be seen."""
    shown = drawn(of_kind("plan", PLAN.model_dump(mode="json")))
    row = next(r for r in shown.splitlines() if r.lstrip().startswith("T2"))
    assert row.split()[:4] == ["T2", "M", "Command", "T1"]


def test_evidence_is_a_row_for_each_criterion() -> None:
    """Red ones stand out."""
    evidence = Evidence(
        build=DIGEST,
        spec=DIGEST,
        commit="a" * 40,
        criteria=[
            CriterionEvidence(
                criterion="C1",
                text="It adds",
                holds=False,
                source="sealed",
                tests=[TestResult(id="t::a", outcome="passed"), TestResult(id="t::b", outcome="failed")],
            )
        ],
        suite=SuiteResult(command="pytest", exit_code=1),
        problems=["t::b fails"],
        passed=False,
    )
    shown = drawn(of_kind("evidence", evidence.model_dump(mode="json")))
    assert "RED" in shown
    assert "1 of 2 pass (sealed)" in shown
    assert "- t::b fails" in shown


def test_a_document_of_another_version_is_shown_as_yaml() -> None:
    """Nothing that was stored is hidden."""
    assert "colour: red" in drawn(of_kind("spec", {"colour": "red"}))
    assert "colour: red" in drawn(of_kind("something", {"colour": "red"}))


def test_plain_lines_have_a_time_and_no_escapes() -> None:
    """They go into logs and pipes."""
    made, file = console()
    feed = Feed()
    screen = PlainScreen(made)
    screen.start(feed.view)
    screen.show(feed.view, feed.add("step_finished", step="specify", seconds=1))
    assert file.getvalue().endswith("03:04:06  specify done (1.0 s)\n")
    assert "\x1b" not in file.getvalue()


def test_a_live_screen_keeps_what_matters_and_takes_its_board_away() -> None:
    """At the end only the lines that stay are left."""
    made, file = console(terminal=True)
    feed = busy()
    screen = LiveScreen(made)
    screen.start(feed.view)
    event = feed.add("task_merged", task="T1", commit="abcdef0123")
    screen.show(feed.view, event)
    with screen.paused():
        screen.present("To decide: spec")
    screen.stop()
    assert "T1 merged as abcdef01" in file.getvalue()
    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 2


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Text that is no ASCII is escaped: no line separator can split an object."""
    feed = Feed()
    JsonScreen().show(feed.view, feed.add("step_failed", step="x", error="a\u2028b\n"))
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert out.isascii()
    assert json.loads(out)["data"]["error"] == "a\u2028b\n"
