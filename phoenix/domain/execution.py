"""What a command in a sandbox may use, runs with, and comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """What one command may use. Memory counts the whole process tree."""

    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    cpu_seconds: float = 600.0
    file_bytes: int = 512 * 1024**2
    tmp_bytes: int = 512 * 1024**2
    output_bytes: int = 1024**2
    """Captured output beyond this is dropped from the middle: head and tail are kept."""


@dataclass(frozen=True)
class ExecuteResult:
    """How a command ended. `exit_code` is None when it was killed; `killed` then says why."""

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    killed: str = ""
    """Empty, or one of: timeout, cpu, memory, processes, disk, output."""
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class Environment:
    """An installed set of a project's declared dependencies, mounted read-only.

    `root` is a folder on the host; `path` are the folders that go first in PATH, below it.
    """

    id: str
    root: Path
    path: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
