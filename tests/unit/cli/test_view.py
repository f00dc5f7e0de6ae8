"""The view of a project, as a pure function of its events."""

from __future__ import annotations

from decimal import Decimal
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from phoenix.cli.view import _CHANGES, Gate, View
from tests.unit.cli.event_feed import Feed


def test_a_run_that_starts_and_ends_well_is_delivered() -> None:
    """The project's own run decides the status."""
    feed = Feed()
    feed.add("run_started", key="", flow="develop")
    assert feed.view.status == "running"
    feed.add("project_delivered", branch="phoenix/list-1", commit="a" * 40)
    feed.add("run_finished", key="", status="success")
    assert (feed.view.status, feed.view.branch, feed.view.commit) == ("delivered", "phoenix/list-1", "a" * 40)


def test_a_child_that_fails_does_not_end_the_project() -> None:
    """Only the project's own run does; the child's reason is noted."""
    feed = Feed()
    feed.add("run_started", key="")
    child = feed.child("build/1/T2")
    feed.add("run_finished", child, key="build/1/T2", status="failed", error={"message": "gave up"})
    assert feed.view.status == "running"
    assert feed.view.notes == ("T2: gave up",)


def test_a_failure_keeps_its_error_until_it_is_tried_again() -> None:
    """A resumed project shows no error of the attempt before."""
    feed = Feed()
    feed.add("run_started", key="")
    feed.add("run_finished", key="", status="failed", error={"code": "budget_spent", "message": "spent"})
    assert feed.view.status == "failed"
    assert feed.view.error == {"code": "budget_spent", "message": "spent"}
    feed.add("run_retried", key="")
    assert (feed.view.status, feed.view.error) == ("running", None)


def test_steps_of_parallel_tasks_run_side_by_side() -> None:
    """A step of the same name in two children is two steps."""
    feed = Feed()
    first, second = feed.child("build/1/T1"), feed.child("build/1/T2")
    feed.add("step_started", first, step="code")
    feed.add("step_started", second, step="code")
    assert [(s.task, s.name) for s in feed.view.running] == [("T1", "code"), ("T2", "code")]
    feed.add("step_finished", first, step="code", seconds=1.0)
    assert [s.task for s in feed.view.running] == ["T2"]
    assert feed.view.finished == 1


def test_internal_steps_are_shown_only_alone() -> None:
    """A user cares for the agents' steps."""
    feed = Feed()
    feed.add("step_started", step="absorb")
    assert [s.name for s in feed.view.running] == ["absorb"]
    feed.add("step_started", feed.child("build/1/T1"), step="code")
    assert [s.name for s in feed.view.running] == ["code"]


def test_a_step_tried_again_is_shown_once() -> None:
    """The new attempt takes the place of the old."""
    feed = Feed()
    feed.add("step_started", step="specify")
    later = feed.add("step_started", step="specify", attempt=2)
    assert [(s.name, s.since) for s in feed.view.running] == [("specify", later.at)]


def test_steps_of_a_killed_attempt_are_forgotten() -> None:
    """What a dead worker began is not running any more."""
    feed = Feed()
    feed.add("run_started", key="")
    feed.add("step_started", step="specify")
    feed.add("run_resumed", key="", attempt=2)
    assert feed.view.running == ()


def test_the_board_says_what_each_agent_does() -> None:
    """A tool call in a child's run appears on its task's row, and stays when the board changes."""
    feed = Feed()
    rows = [{"task": "T1", "title": "Store", "status": "running", "reason": ""}]
    feed.add("board_changed", round=1, tasks=rows)
    child = feed.child("build/1/T1")
    feed.add("tool_called", child, tool="bash", arguments={"command": "pytest -q"}, result="ok")
    assert feed.view.tasks[0].doing == "bash pytest -q"
    feed.add("board_changed", round=1, tasks=[rows[0] | {"status": "done"}])
    assert (feed.view.tasks[0].status, feed.view.tasks[0].doing) == ("done", "bash pytest -q")


def test_repair_tasks_join_the_board() -> None:
    """A later round's tasks do not wipe out the first round's."""
    feed = Feed()
    feed.add("board_changed", round=1, tasks=[{"task": "T1", "title": "a", "status": "done"}])
    feed.add("board_changed", round=2, tasks=[{"task": "R2", "title": "b", "status": "waiting"}])
    assert [t.task for t in feed.view.tasks] == ["T1", "R2"]


def test_costs_add_up_and_an_unknown_price_makes_the_sum_unknown() -> None:
    """A sum with a hole in it is no sum."""
    feed = Feed()
    feed.add("model_called", model="m", input_tokens=10, output_tokens=2, cost_usd="0.25")
    feed.add("model_called", model="m", input_tokens=10, output_tokens=2, cost_usd="0.50")
    assert (feed.view.cost_usd, feed.view.input_tokens, feed.view.output_tokens) == (Decimal("0.75"), 20, 4)
    feed.add("model_called", model="m", input_tokens=1, output_tokens=1, cost_usd=None)
    assert feed.view.cost_usd is None
    assert feed.view.calls == 3


def test_recorded_calls_cost_nothing() -> None:
    """Their figures are the recording's; nothing was spent."""
    feed = Feed()
    feed.add("model_called", model="m", input_tokens=10, output_tokens=2, cost_usd="9.0", recorded=True)
    assert (feed.view.cost_usd, feed.view.replayed, feed.view.input_tokens) == (Decimal(0), 1, 10)


def test_a_gate_is_open_until_it_is_decided() -> None:
    """One that a policy decides is never open."""
    feed = Feed()
    approval = uuid4()
    feed.add("run_started", key="")
    feed.add("approval_requested", approval_id=str(uuid4()), kind="approve", name="spec", policy=True)
    feed.add("run_waiting", key="", **{"for": ["children"]})
    assert (feed.view.gates, feed.view.status) == ((), "running")
    feed.add("approval_requested", approval_id=str(approval), kind="approve", name="plan", policy=False)
    feed.add("run_waiting", key="", **{"for": ["plan"]})
    assert feed.view.gates == (Gate(approval, "approve", "plan"),)
    assert feed.view.status == "waiting"
    feed.add("approval_decided", approval_id=str(approval), name="plan", verdict="approve", by="ada")
    assert feed.view.gates == ()


def test_a_verification_names_each_criterion() -> None:
    """The count is of those that hold."""
    feed = Feed()
    feed.add(
        "build_verified", round=2, passed=False, criteria={"C1": True, "C2": False}, problems=["x failed"]
    )
    assert feed.view.criteria == {"C1": True, "C2": False}
    assert feed.view.tests == "round 2: 1 of 2 criteria hold"
    assert feed.view.notes == ("x failed",)


def test_an_event_seen_twice_changes_nothing() -> None:
    """A log that is read again gives the same view."""
    feed = Feed()
    feed.add("model_called", model="m", input_tokens=10, output_tokens=2, cost_usd="0.25")
    view = feed.view
    for event in feed.events:
        view = view.apply(event)
    assert view == feed.view


def test_control_characters_of_a_tool_do_not_reach_the_view() -> None:
    """A tool call cannot move the cursor or clear the screen."""
    feed = Feed()
    feed.add("tool_called", tool="bash", arguments={"command": "\x1b[2J\x1b]0;owned\x07"}, result="")
    assert "\x1b" not in feed.view.tools[0]
    assert "\x07" not in feed.view.tools[0]


@given(
    st.sampled_from(sorted(set(_CHANGES) - {"approval_requested"})),
    st.dictionaries(
        st.sampled_from(
            ["key", "step", "tasks", "criteria", "error", "task", "tool", "arguments", "cost_usd"]
        ),
        st.none() | st.integers() | st.just({}) | st.just([]),
    ),
)
def test_no_event_breaks_the_view(kind: str, data: dict[str, object]) -> None:
    """An event of a newer or older version is shown as well as it can be."""
    if data.get("tasks") is None or not isinstance(data.get("tasks"), list):
        data.pop("tasks", None)
    if not isinstance(data.get("cost_usd"), int):
        data.pop("cost_usd", None)
    feed = Feed(View())
    feed.add(kind, **data)
    assert feed.view.seq == 1
