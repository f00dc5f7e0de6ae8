"""Processes that are forked from one which has imported everything, so that each starts in a moment.

Signals go through a process's file descriptor: its number may belong to another program soon after it died.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.lane", "tests.chaos.soak", "pytest"])


class Child:
    """A process that runs a function of a module; it ends with us."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = _context.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        self.pid = self._process.pid or 0
        try:
            self._file = os.pidfd_open(self.pid)
        except ProcessLookupError:
            self._file = -1

    def is_alive(self) -> bool:
        """Tell whether it runs; one that is stopped does."""
        return self._file >= 0 and not select.select([self._file], [], [], 0)[0]

    def is_frozen(self) -> bool:
        """Tell whether it was stopped by a signal."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return self.is_alive() and stat.rpartition(")")[2].split()[0] == "T"

    def send(self, what: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.is_alive():
            signal.pidfd_send_signal(self._file, what)

    def kill(self) -> None:
        """Kill it without warning, and wait for its end."""
        self.send(signal.SIGKILL)
        self.join()

    def join(self) -> None:
        """Wait for its end."""
        if self._file >= 0:
            select.select([self._file], [], [])
            os.close(self._file)
            self._file = -1
        self._process.join()
