"""Runs one command inside a pod, within its limits, and ends all that it started.

Imports nothing of Phoenix: its text is run as a script. As a child subreaper every orphan of the command
becomes its child. Anything more on its input, or the input's end, means that nobody waits for the command
any longer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PAUSE_SECONDS = 0.05
FLOOD_FACTOR = 100
FLOOD_BYTES = 64 * 1024**2
_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Kept:
    """The head and the tail of one stream."""

    def __init__(self, limit: int) -> None:
        self.head, self.tail = bytearray(), bytearray()
        self.total = 0
        self._head_limit = max(1, limit // 2)
        self._tail_limit = max(1, limit - self._head_limit)

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        self.total += len(data)
        room = max(0, self._head_limit - len(self.head))
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self._tail_limit:
            del self.tail[: -self._tail_limit]

    def end(self) -> None:
        """Cut the tail to its limit."""
        del self.tail[: -self._tail_limit]


def processes() -> dict[int, list[bytes]]:
    """Return what /proc/PID/stat says of each process, from its state on."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only, and fast
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                data = Path("/proc", name, "stat").read_bytes()
                found[int(name)] = data[data.rindex(b")") + 2 :].split()
    return found


def below(root: int, seen: dict[int, list[bytes]]) -> list[int]:
    """Return all processes below one."""
    children: dict[int, list[int]] = {}
    for pid, fields in seen.items():
        children.setdefault(int(fields[1]), []).append(pid)
    found: list[int] = []
    queue = [root]
    while queue:
        more = children.get(queue.pop(), [])
        found += more
        queue += more
    return found


def exceeded(limits: dict[str, Any], tmp: Path) -> str:
    """Return which limit the command and all it started exceed, or nothing."""
    seen = processes()
    pids = below(os.getpid(), seen)
    count = sum(1 if seen[p][0] in {b"Z", b"X"} else int(seen[p][17]) for p in pids)
    if count > limits["processes"]:
        return "processes"
    if sum(int(n) for p in pids for n in seen[p][11:15]) / _TICKS > limits["cpu_seconds"]:
        return "cpu"
    resident = sum(int(seen[p][21]) for p in pids) * _PAGE
    # Shared pages are in that once for each process: it only raises suspicion.
    if resident > limits["memory_bytes"] and sum(map(_share, pids)) > limits["memory_bytes"]:
        return "memory"
    return "disk" if _size(tmp) > limits["tmp_bytes"] else ""


def _share(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _size(folder: Path) -> int:
    total = 0
    for at, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(at, name)).st_blocks * 512  # noqa: PTH118 - fast
    return total


def end_all() -> None:
    """Kill descendants until there is not even a zombie."""
    while True:
        for pid in below(os.getpid(), processes()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(0.002)


class Watched:
    """A command that runs, with its streams and its limits."""

    def __init__(self, child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
        self.limits = request["limits"]
        self.tmp = Path(request["tmp"])
        self.out, self.err = (Kept(self.limits["output_bytes"]) for _ in range(2))
        self._ended = os.pidfd_open(child.pid)
        self._deadline = time.monotonic() + request["seconds"]
        self._flood = max(FLOOD_BYTES, FLOOD_FACTOR * self.limits["output_bytes"])
        self._looked = time.monotonic()
        self._selector = selectors.DefaultSelector()
        for file, kept in ((child.stdout, self.out), (child.stderr, self.err)):
            self._selector.register(file, selectors.EVENT_READ, kept)  # type: ignore[arg-type]
        for handle in (0, self._ended):
            self._selector.register(handle, selectors.EVENT_READ)

    def until_over(self) -> str:
        """Read the command's output until it ends or must end; return why it must."""
        while True:
            for key, _ in self._selector.select(PAUSE_SECONDS):
                if key.fd == self._ended:
                    return ""
                if key.fd == 0:
                    return "cancelled"
                data = os.read(key.fd, 65536)
                key.data.feed(data)
                if not data:
                    self._selector.unregister(key.fileobj)
            if reason := self._too_much():
                return reason

    def _too_much(self) -> str:
        now = time.monotonic()
        if now > self._deadline:
            return "timeout"
        if self.out.total + self.err.total > self._flood:
            return "output"
        if now - self._looked < PAUSE_SECONDS:
            return ""
        self._looked = now
        return exceeded(self.limits, self.tmp)


def run(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Run the command; return how it ended, and what is kept of its output."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A command is of the same user, and may not look into what judges it.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    home = Path(request["variables"]["HOME"])
    home.mkdir(parents=True)
    began = time.monotonic()
    child = subprocess.Popen(
        [part.encode("utf-8", "surrogateescape") for part in request["argv"]],
        cwd=request["cwd"],
        env=request["variables"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    watched = Watched(child, request)
    out, err = watched.out, watched.err
    killed = watched.until_over()
    code = None if killed else child.wait()
    end_all()
    for file, kept in ((child.stdout, out), (child.stderr, err)):
        assert file is not None
        while data := os.read(file.fileno(), 65536):
            kept.feed(data)
        kept.end()
    shutil.rmtree(request["tmp"], ignore_errors=True)
    parts = [[len(kept.head), len(kept.tail), kept.total] for kept in (out, err)]
    if code is not None and code < 0:
        code = 128 - code
    said = {"exit": code, "killed": killed, "seconds": time.monotonic() - began, "parts": parts}
    return said, b"".join(bytes(part) for kept in (out, err) for part in (kept.head, kept.tail))


def main() -> None:
    """Run what the first line of the input asks for, and answer on the output."""
    # Without a buffer: what comes later on the input is waited for by its descriptor.
    with open(0, "rb", buffering=0, closefd=False) as lines:
        request = json.loads(lines.readline())
    said, body = run(request)
    data = json.dumps(said).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(data)) + data + body)
    sys.stdout.buffer.flush()


if __name__ == "__phoenix__":
    main()
