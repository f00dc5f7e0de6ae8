"""Boundaries of a process, each counted as it is crossed, and the fault that happens at one of them.

The database's wire is watched where every driver above psycopg passes: `AsyncConnection.wait` sends a
statement, a commit or a pipeline's end and returns with its answer.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg

from tests.chaos.ledger import Ledger, attempt

Kind = Literal["db", "model", "tool", "workspace", "effect"]
Phase = Literal["before", "after"]
Mode = Literal["kill", "fail", "stop", "freeze"]
"""SIGKILL; a lost connection or an exception; a graceful stop of the worker; SIGSTOP until it is woken."""

LABEL_CHARS = 90
QUIET = re.compile(
    r"LISTEN|UNLISTEN|SELECT pg_advisory_lock|SELECT 1$|;$|.*procrastinate_(update_heart|fetch_job)"
)
"""The background's own statements: they come by the clock, not by what a run does."""


_aside: ContextVar[bool] = ContextVar("aside", default=False)
_calls: ContextVar[frozenset[str]] = ContextVar("calls", default=frozenset())
"""Model calls that were answered in this course of a step."""


@contextmanager
def aside() -> Iterator[None]:
    """Leave what the body does uncounted: the onlooker's own questions are no part of the course."""
    token = _aside.set(True)
    try:
        yield
    finally:
        _aside.reset(token)


class Broken(Exception):
    """The fault at a boundary that is not the database's."""


@dataclass(frozen=True)
class Boundary:
    """A place in the course of a process: the nth crossing of a boundary so labelled."""

    kind: Kind
    label: str
    nth: int
    is_own: bool = field(default=False, compare=False)
    """A run itself came here, and not what works in the background."""


@dataclass(frozen=True)
class Point:
    """A boundary, which side of it, and what happens there."""

    boundary: Boundary
    phase: Phase
    mode: Mode

    def __str__(self) -> str:
        at = self.boundary
        return f"{self.mode} {self.phase} {at.kind} {at.label} #{at.nth}"


class Boundaries:
    """Counts what this process crosses while it is armed, and lets one fault happen."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.seen: Counter[tuple[Kind, str, Phase]] = Counter()
        self.point: Point | None = None
        self.fired = False
        self.froze = False
        self.on_stop: Callable[[], None] = lambda: None
        self.unstored: set[str] = set()
        """Model calls whose answer has arrived and that no commit has followed yet."""
        self.latest: dict[str, str] = {}
        """The latest model call that was answered, by its line of the workflow."""
        self.trace: list[Boundary] = []
        """What was crossed whole, in order."""
        self._armed = False

    def arm(self, point: Point | None) -> None:
        """Count from nought; the fault happens when its point is reached."""
        self.seen.clear()
        self.unstored.clear()
        self.latest.clear()
        self.trace.clear()
        self.point, self.fired, self._armed = point, False, True

    def disarm(self) -> None:
        """Stop counting."""
        self._armed = False

    def cross(self, kind: Kind, label: str, phase: Phase) -> bool:
        """Count a crossing; return whether it fails."""
        if not self._armed or _aside.get():
            return False
        self.seen[kind, label, phase] += 1
        here = Boundary(kind, label, self.seen[kind, label, phase], is_own=attempt() > 0)
        if phase == "after":
            self.trace.append(here)
        point = self.point
        if point is None or self.fired or point.phase != phase:
            return False
        return point.boundary == here and self._fire(point)

    def _fire(self, point: Point) -> bool:
        self.fired = True
        self.ledger.note("fired", point=str(point), mode=point.mode, unstored=sorted(self.unstored))
        match point.mode:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
                self.froze = True
                self.ledger.note("thawed")
            case "stop":
                self.on_stop()
            case "fail":
                return True
        return False

    def answered(self, line: str, call: str) -> None:
        """Take note of a model's answer that has just arrived."""
        # Whatever the line had asked before, its step has gone on from since.
        self.unstored.discard(self.latest.get(line, ""))
        self.unstored.add(call)
        self.latest[line] = call
        _calls.set(_calls.get() | {call})

    def stored(self) -> None:
        """Take note that what this course of a step was answered has had a chance to be stored."""
        self.unstored -= _calls.get()

    def watch(self, kind: Kind, label: str, phase: Phase) -> None:
        """Cross a boundary that is not the database's.

        Raises:
            Broken: it fails here.
        """
        if self.cross(kind, label, phase):
            raise Broken(f"{phase} {label}")


def watch_database(boundaries: Boundaries) -> None:
    """Watch every statement, commit and pipeline of this process from now on."""
    inner = psycopg.AsyncConnection.wait

    def fail(connection: psycopg.AsyncConnection[Any]) -> None:
        connection.pgconn.finish()
        raise psycopg.OperationalError("the connection is lost")

    async def wait(self: psycopg.AsyncConnection[Any], gen: Any, *args: Any, **kwargs: Any) -> Any:
        label = _label(self, gen)
        if not label or QUIET.match(label):
            return await inner(self, gen, *args, **kwargs)
        if boundaries.cross("db", label, "before"):
            gen.close()
            fail(self)
        result = await inner(self, gen, *args, **kwargs)
        if _stores(self, label):
            boundaries.stored()
        if boundaries.cross("db", label, "after"):
            fail(self)
        return result

    psycopg.AsyncConnection.wait = wait  # type: ignore[method-assign]


def _label(connection: Any, gen: Any) -> str:
    """Name what goes over the wire; "" for what only listens."""
    name = getattr(getattr(gen, "gi_code", None), "co_name", "")
    if name in ("_execute_gen", "_executemany_gen_pipeline", "_executemany_gen_no_pipeline"):
        query = gen.gi_frame.f_locals["query"]
        text = query if isinstance(query, str) else query.decode() if isinstance(query, bytes) else str(query)
        connection._chaos_last = " ".join(text.split())[:LABEL_CHARS]
        return str(connection._chaos_last)
    what = {"_commit_gen": "COMMIT", "_rollback_gen": "ROLLBACK", "_sync_gen": "SYNC"}.get(name, "")
    return f"{what} of {getattr(connection, '_chaos_last', '')}"[:LABEL_CHARS] if what else ""


def _stores(connection: Any, label: str) -> bool:
    """Tell whether this ended a transaction that wrote rows of Phoenix."""
    idle = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
    return bool(
        idle and re.search(r"INSERT|UPDATE|WITH|phoenix_settle", label) and "procrastinate" not in label
    )
