"""Events as sentences."""

from __future__ import annotations

from uuid import uuid4

import pytest

from phoenix.cli.lines import line_of
from tests.unit.cli.event_feed import Feed


@pytest.mark.parametrize(
    ("kind", "data", "line"),
    [
        ("step_finished", {"step": "specify", "seconds": 2.04}, ("main", "specify done (2.0 s)")),
        (
            "step_failed",
            {"step": "specify", "error": "no\nanswer", "will_retry": True},
            ("main", "specify failed (will be tried again): no answer"),
        ),
        ("tests_sealed", {"tests": 5, "red": 4}, ("main", "5 acceptance tests sealed, 4 of them red")),
        ("task_merged", {"task": "T1", "commit": "abcdef0123"}, ("main", "T1 merged as abcdef01")),
        (
            "build_verified",
            {"passed": True, "round": 1, "criteria": {"C1": True}},
            ("main", "verified, round 1: 1 of 1 criteria hold"),
        ),
        (
            "approval_decided",
            {"approval_id": str(uuid4()), "name": "spec", "verdict": "reject", "by": "ada"},
            ("main", "spec: rejected by ada"),
        ),
        ("step_started", {"step": "wait"}, None),
        ("step_finished", {"step": "start_build", "seconds": 0}, None),
        ("run_resumed", {"key": "", "attempt": 2, "was": "running"}, ("main", "goes on (attempt 2)")),
        ("run_resumed", {"key": "", "attempt": 3, "was": "waiting"}, None),
        ("model_called", {"input_tokens": 1}, None),
        ("something_newer", {}, None),
    ],
)
def test_each_kind_has_its_sentence(kind: str, data: dict[str, object], line: object) -> None:
    """What a reader cares for is said in a few words, routine not at all."""
    feed = Feed()
    event = feed.add(kind, **data)
    assert line_of(feed.view, event) == line


def test_a_tasks_steps_are_details() -> None:
    """Only the project's own steps stay on the screen."""
    feed = Feed()
    child = feed.child("build/1/T3")
    event = feed.add("step_finished", child, step="code", seconds=1)
    assert line_of(feed.view, event) == ("detail", "T3 code done (1.0 s)")
