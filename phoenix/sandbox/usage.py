"""What a tree of processes uses, measured from outside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phoenix.domain.execution import Limits

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
INODE_BYTES = 1024
"""What an empty file in a tmpfs costs the kernel, about."""


@dataclass(frozen=True)
class Usage:
    """Processes, CPU seconds and memory of everything inside a sandbox at one moment."""

    processes: int
    cpu_seconds: float
    memory_bytes: int
    pids: tuple[str, ...] = ()
    proc: Path = Path("/proc")
    tmp_bytes: int = 0
    """What its temporary folder holds, where no mount limits that."""

    def exact_memory_bytes(self) -> int:
        """Return the memory with pages that several processes share counted once."""
        total = 0
        for pid in self.pids:
            try:
                text = (self.proc / pid / "smaps_rollup").read_text()
            except OSError:
                continue
            for line in text.splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
                    break
        return total


def measure(proc: Path, pids: Iterable[str]) -> Usage:
    """Measure these processes; those that ended meanwhile do not count."""
    count, ticks, pages, seen = 0, 0, 0, []
    for pid in pids:
        try:
            data = (proc / pid / "stat").read_bytes()
        except OSError:
            continue
        fields = data[data.rindex(b")") + 2 :].split()
        if fields[0] in {b"Z", b"X"}:
            ticks += int(fields[11]) + int(fields[12])
            count += 1
            continue
        count += int(fields[17])  # threads count as processes, as in RLIMIT_NPROC
        ticks += sum(int(value) for value in fields[11:15])
        pages += int(fields[21])
        seen.append(pid)
    return Usage(count, ticks / _TICKS, pages * _PAGE, tuple(seen), proc)


def pids_in(proc: Path) -> list[str]:
    """Return all process ids of a proc file system."""
    return [name for name in os.listdir(proc) if name.isdigit()]  # noqa: PTH208 - names only, and fast


def folder_bytes(folder: Path) -> int:
    """Return what the files of a folder take on disk; links are not followed."""
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_blocks * 512  # noqa: PTH118 - fast
    return total


def exceeded(usage: Usage, limits: Limits) -> str:
    """Return which limit is exceeded: cpu, memory, processes, disk; or nothing."""
    if usage.processes > limits.processes:
        return "processes"
    if usage.cpu_seconds > limits.cpu_seconds:
        return "cpu"
    # The quick sum counts shared pages once for each process, so it only raises suspicion.
    if usage.memory_bytes > limits.memory_bytes and usage.exact_memory_bytes() > limits.memory_bytes:
        return "memory"
    if usage.tmp_bytes > limits.tmp_bytes:
        return "disk"
    return ""
