"""What a record of a log is about: ids bound over awaits, tasks, and processes that this one starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

import structlog

VARIABLE = "PHOENIX_LOG_CONTEXT"
"""Where a process of Phoenix finds what it was started for, as a JSON object of texts."""
NAMES = ("organisation_id", "project_id", "run_id", "task", "step", "attempt", "request_id")
MAX_CHARS = 200


def bind(**about: str | int | None) -> None:
    """Bind ids to all records that follow in this task and in those that it starts; None binds nothing."""
    structlog.contextvars.bind_contextvars(**{k: v for k, v in about.items() if v not in (None, "")})


@contextmanager
def bound(**about: str | int | None) -> Iterator[None]:
    """Bind ids within a body."""
    with structlog.contextvars.bound_contextvars(**{k: v for k, v in about.items() if v not in (None, "")}):
        yield


def current() -> dict[str, str]:
    """Return the ids that are bound, as texts."""
    found = structlog.contextvars.get_contextvars()
    return {name: str(found[name]) for name in NAMES if name in found}


def for_process(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment for a process of Phoenix that goes on with what this one does.

    Never give it to a process that runs projects' code.
    """
    given = dict(os.environ if environment is None else environment)
    given.pop(VARIABLE, None)
    return given | ({VARIABLE: json.dumps(current())} if current() else {})


def inherit(environment: MutableMapping[str, str] | None = None) -> None:
    """Bind what the process that started this one was doing, and forget how it was told."""
    given = (os.environ if environment is None else environment).pop(VARIABLE, "")
    try:
        found = json.loads(given) if given else {}
    except ValueError:
        return
    if not isinstance(found, dict):
        return
    bind(**{name: str(found[name])[:MAX_CHARS] for name in NAMES if name in found})
