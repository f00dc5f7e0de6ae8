"""Locks between processes, of one machine or of several on a shared folder, that end with their holder.

The kernel frees them when the holder dies. On NFS 4 the server does: at once when the process dies, and
after its lease, 90 s by default, when the machine does. A holder that is frozen keeps them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phoenix.errors import WorkspaceBusy


@contextmanager
def locked(path: Path, *, timeout_seconds: float = 60.0) -> Iterator[int]:
    """Hold a file's lock; wait for it in this thread.

    Yields:
        The file descriptor. A child process that inherits it keeps the lock until it ends too.

    Raises:
        WorkspaceBusy: its holder lives on, perhaps frozen, and does not let go.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _wait(fd, path.name, time.monotonic() + timeout_seconds)
        yield fd
    finally:
        os.close(fd)


def _wait(fd: int, name: str, deadline: float) -> None:
    pause = 0.002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                break
        else:
            return
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    raise WorkspaceBusy(
        f"Another process holds the lock {name} and does not let go.",
        hint="Work goes on by itself when the other Phoenix process that works on this project ends.",
    )
