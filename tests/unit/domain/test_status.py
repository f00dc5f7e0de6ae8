"""Phoenix's statuses in the words of the LangGraph-compatible surface."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args
from uuid import uuid4

import pytest

from phoenix.domain.run import Run, RunError, RunStatus
from phoenix.domain.status import WORDS, run_word, thread_word


def run(status: RunStatus, code: str = "") -> Run:
    """Return a run of this status, failed with this code."""
    error = RunError(code=code, category="permanent", message="m") if code else None
    return Run(
        id=uuid4(), project_id=uuid4(), flow="f", status=status, error=error, created_at=datetime.now(UTC)
    )


def test_every_status_has_a_word() -> None:
    """No status of Phoenix is without one there."""
    assert set(WORDS) == set(get_args(RunStatus))


@pytest.mark.parametrize(
    ("status", "asks", "word", "thread"),
    [
        ("pending", False, "pending", "busy"),
        ("running", False, "running", "busy"),
        ("waiting", False, "running", "busy"),
        ("waiting", True, "interrupted", "interrupted"),
        ("success", False, "success", "idle"),
        ("failed", False, "error", "error"),
        ("cancelled", False, "interrupted", "interrupted"),
    ],
)
def test_statuses_are_translated(status: RunStatus, asks: bool, word: str, thread: str) -> None:
    """A run that waits for its children is at work; one that waits for a person is interrupted."""
    assert run_word(run(status), asks=asks) == word
    assert thread_word([run(status)], asks=asks) == thread


def test_a_deadline_is_told_from_other_failures() -> None:
    """Clients tell a run that took too long from one that is wrong."""
    assert run_word(run("failed", "model_timeout")) == "timeout"
    assert run_word(run("failed", "agent_gave_up")) == "error"


def test_a_thread_is_what_its_latest_run_left_unless_one_is_unfinished() -> None:
    """An earlier failure is forgotten after a success, and a new run makes the thread busy."""
    assert thread_word([]) == "idle"
    assert thread_word([run("failed"), run("success")]) == "idle"
    assert thread_word([run("success"), run("failed")]) == "error"
    assert thread_word([run("failed"), run("pending")]) == "busy"
