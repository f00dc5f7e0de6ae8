"""Notes that outlive the process that makes them: one JSON object a line, appended whole."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from structlog.contextvars import get_contextvars

NOTES = "notes.jsonl"


def attempt() -> int:
    """Return which attempt of its run the caller is part of; 0 when it is part of none."""
    return int(get_contextvars().get("attempt", 0))


class Ledger:
    """Notes of any number of processes in one folder.

    A line is written with a single `write` to a file opened for appending, so lines of several processes do
    not mix, and what was written stays when its process is killed in the next instant.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NOTES
        self._file: int | None = None

    def note(self, kind: str, **data: Any) -> None:
        """Append a note with its time (seconds since the epoch), this process's id and the run's attempt."""
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        line = {"kind": kind, "at": time.time(), "pid": os.getpid(), "attempt": attempt(), **data}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def read(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the notes that have all these values, oldest first."""
        if not self.path.exists():
            return []
        notes = (json.loads(line) for line in self.path.read_text().splitlines() if line)
        return [note for note in notes if all(note.get(k) == v for k, v in wanted.items())]
