"""How Phoenix's statuses are called on the LangGraph-compatible surface. Pure: rows in, words out.

| Phoenix | run there | thread there |
|---|---|---|
| pending, also while paused or behind another | pending | busy |
| running | running | busy |
| waiting for children | running | busy |
| waiting for a person | interrupted | interrupted |
| success | success | idle |
| failed by a deadline | timeout | error |
| failed otherwise | error | error |
| cancelled | interrupted | interrupted |
| no run yet | | idle |

A thread's word is that of its unfinished runs while it has any, else that of its latest run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from phoenix.domain.run import FINISHED, Run

RunWord = Literal["pending", "running", "error", "success", "timeout", "interrupted"]
ThreadWord = Literal["idle", "busy", "interrupted", "error"]

WORDS: dict[str, RunWord] = {
    "pending": "pending",
    "running": "running",
    "waiting": "running",
    "success": "success",
    "failed": "error",
    "cancelled": "interrupted",
}


def run_word(run: Run, *, asks: bool = False) -> RunWord:
    """Return a run's status there.

    Args:
        run: Which.
        asks: It waits for a person, not only for its children.
    """
    if run.status == "waiting" and asks:
        return "interrupted"
    if run.status == "failed" and run.error is not None and run.error.code.endswith("timeout"):
        return "timeout"
    return WORDS[run.status]


def thread_word(runs: Sequence[Run], *, asks: bool = False) -> ThreadWord:
    """Return a thread's status there.

    Args:
        runs: The thread's, oldest first.
        asks: One of them waits for a person.
    """
    unfinished = [run for run in runs if run.status not in FINISHED]
    if unfinished:
        return "interrupted" if asks else "busy"
    if not runs or runs[-1].status == "success":
        return "idle"
    return "error" if runs[-1].status == "failed" else "interrupted"
