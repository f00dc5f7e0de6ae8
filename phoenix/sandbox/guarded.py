"""One start of a command under the guardian: what the sandlock and host adapters share."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from phoenix.domain.execution import Limits
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox import guardian
from phoenix.sandbox.descriptor import read_to_end, readable
from phoenix.sandbox.shell import prelude, shell
from phoenix.sandbox.usage import Usage, folder_bytes, measure

END_SECONDS = 10.0


class Guarded:
    """A guardian process, the command below it, and a temporary folder that goes with them."""

    variables: Mapping[str, str] = {}
    """The guardian's own environment: empty, so nothing can leak from it."""

    def __init__(self, limits: Limits, hint: str) -> None:
        self.hint = hint
        self.tmp = Path(tempfile.mkdtemp(prefix="phoenix-sandbox-")).resolve()
        self.home = self.tmp / "home"
        self.home.mkdir()
        mark = f"[{secrets.token_hex(16)}]"
        self.ready = mark.encode()
        self.argv: list[str | bytes] = []
        self.pass_fds: list[int] = []
        self._script = prelude(mark, limits, processes=False)
        self._info = -1
        self._pidfd = -1
        self._pid = 0
        self._command = 0
        self._counts_command = True

    def prepare(
        self,
        command: str,
        variables: Mapping[str, str],
        *,
        cwd: Path,
        policy: dict[str, Any] | None,
        through: Sequence[str] = (),
    ) -> None:
        """Set what the guardian is started with; `through` is a program that runs the shell."""
        self._info, inside = os.pipe2(os.O_CLOEXEC)
        self.pass_fds = [inside]
        self._counts_command = policy is None
        job = {
            "parent": os.getpid(),
            "info": inside,
            "argv": [
                *through,
                shell(),
                "-c",
                self._script,
                "phoenix",
                command.encode("utf-8", "replace").decode(),
            ],
            "variables": dict(variables),
            "cwd": str(cwd),
            "tmp": str(self.tmp),
            "policy": policy,
        }
        quick = ["-S"] if policy is None else []
        self.argv = [sys.executable, "-I", *quick, str(guardian.__file__), json.dumps(job)]

    async def started(self, pid: int) -> None:
        """Learn which process is the command's first."""
        for fd in self.pass_fds:
            os.close(fd)
        self.pass_fds = []
        self._pid = pid
        with contextlib.suppress(ProcessLookupError):
            self._pidfd = os.pidfd_open(pid)
        self._command = int(await read_to_end(self._info, END_SECONDS) or b"0")

    def usage(self) -> Usage | None:
        """Measure everything below the guardian, and the temporary folder."""
        if not self._command:
            return None
        pids = set(guardian.descendants(self._pid))
        if not self._counts_command:
            pids.discard(self._command)  # sandlock's own supervisor
        usage = measure(Path("/proc"), map(str, sorted(pids)))
        return replace(usage, tmp_bytes=folder_bytes(self.tmp))

    async def end(self) -> None:
        """Tell the guardian to kill everything, and wait until it has."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        if not await readable(self._pidfd, END_SECONDS):
            raise SandboxUnavailable("The sandbox did not end when it was told to.")

    def close(self) -> None:
        """Close all descriptors and remove the temporary folder."""
        for fd in (*self.pass_fds, self._info, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self.pass_fds, self._info, self._pidfd = [], -1, -1
        shutil.rmtree(self.tmp, ignore_errors=True)
