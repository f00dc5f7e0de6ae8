"""A lock between the processes that use one folder."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from phoenix.errors import MemoryUnavailable

PAUSE_SECONDS = 0.005


@contextmanager
def locked(file: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock file. Blocks: call it in a thread. A process that dies lets go of it.

    Raises:
        MemoryUnavailable: another process holds it for longer than the seconds.
    """
    with file.open("ab") as opened:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise MemoryUnavailable(
                        f"Another process has held the vectors for {seconds:g} s.",
                        hint="Give several processes a Chroma server: PHOENIX_CHROMA_URL.",
                    ) from error
                time.sleep(PAUSE_SECONDS)
        yield
