"""Failed steps: whose error it is, and whether trying again can help."""

from __future__ import annotations

from contextlib import suppress

from langgraph.errors import NodeTimeoutError

from phoenix.errors import DiskFull, PhoenixError, RunStopped

_STEP = "phoenix_step"


def note_step(error: BaseException, step: str) -> None:
    """Write the failed step's name on its error, which stays what it is. The innermost name wins."""
    if step_of(error):
        return
    with suppress(AttributeError):  # an exception with slots keeps only the note
        setattr(error, _STEP, step)
    error.add_note(f"in step {step!r}")


def step_of(error: BaseException) -> str:
    """Return the name of the step that failed with an error, or an empty string."""
    found = getattr(error, _STEP, "") or (error.node if isinstance(error, NodeTimeoutError) else "")
    return str(found)


def is_transient(error: BaseException) -> bool:
    """Tell whether an error may go away by itself: a timeout, a lost connection, a busy provider."""
    if isinstance(error, PhoenixError):
        return error.category == "transient"
    return isinstance(error, (TimeoutError, ConnectionError, NodeTimeoutError))


def is_containable(error: BaseException) -> bool:
    """Tell whether a fallback or a sibling may carry on after an error.

    A spent budget, a superseded run, a broken seal, a stopped run and a full disk end everything.
    """
    if isinstance(error, (RunStopped, DiskFull)):
        return False
    return not (isinstance(error, PhoenixError) and error.category in ("budget", "conflict", "security"))
