"""Spans as they are recorded, and the header that carries a trace from one process to the next.

Spans are no objects of the OpenTelemetry SDK: those exist once they have ended, in the process that began
them. A run is taken up by other processes, so what can be a parent is written down as it begins, under an
id that every process can tell, and whoever finds it abandoned ends it (docs/decisions/0036).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["open", "ok", "failed", "interrupted"]
Attribute = str | int | float | bool

LASTING = frozenset({"request", "run", "turn", "step", "tool"})
"""Kinds that may be parents. All others have no children."""
DETAIL = frozenset({"sql", "git", "sandbox"})
"""Kinds below the level of events: the first that are left out under load."""
NAME_CHARS = 200

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1


@dataclass(slots=True)
class Span:
    """Something that takes time. Times are nanoseconds since 1970; ids are hexadecimal."""

    trace: str
    """32 digits."""
    id: str
    """16 digits."""
    parent: str
    """Empty at the top."""
    kind: str
    name: str
    began: int
    ended: int = 0
    """0 while it goes on."""
    status: Status = "open"
    project: str = ""
    """Empty for what belongs to no project: it is exported, and not kept."""
    run: str = ""
    attempt: int = 0
    is_sampled: bool = True
    attributes: dict[str, Attribute] = field(default_factory=dict)
    held: list[Span] | None = None
    """What waits until this one has ended, where a process that dies leaves no trace of it."""

    def end(self, status: Status = "ok") -> None:
        """End it now, unless it has ended."""
        if not self.ended:
            self.ended, self.status = max(time.time_ns(), self.began), status


@dataclass(frozen=True, slots=True)
class Remote:
    """A span of another process, as a header names it."""

    trace: str
    id: str
    is_sampled: bool


def read_traceparent(text: str) -> Remote | None:
    """Return what a W3C `traceparent` says; None where it is none: then a trace begins here."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    # Later versions may say more at the end; the first one may not.
    if version == "ff" or (version == "00" and rest) or not int(trace, 16) or not int(span, 16):
        return None
    return Remote(trace, span, bool(int(flags, 16) & _SAMPLED))


def traceparent_of(span: Span) -> str:
    """Return the header that names a span."""
    return f"00-{span.trace}-{span.id}-{'01' if span.is_sampled else '00'}"


def new_trace() -> str:
    """Return the id of a trace that begins."""
    return secrets.token_hex(16)


def new_id() -> str:
    """Return the id of a span that begins."""
    return secrets.token_hex(8)


def id_of(*names: object) -> str:
    """Return the id that a span has in every process, from what names it."""
    text = "\0".join(map(str, names))
    found = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found if int(found, 16) else "0" * 15 + "1"


def is_within(trace: str, share: float) -> bool:
    """Tell whether a trace is among the share that is recorded: every process says the same."""
    return share >= 1 or int(trace[16:], 16) < share * 2**64
