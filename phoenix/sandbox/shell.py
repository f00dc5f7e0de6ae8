"""The shell that runs commands, and the text that sets limits before it does."""

from __future__ import annotations

import shlex
from pathlib import Path

from phoenix.domain.execution import Limits

OPEN_FILES = 4096


def shell() -> str:
    """Return the shell that runs commands."""
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"


def prelude(ready: str, limits: Limits, *, processes: bool = True, bash: bool | None = None) -> str:
    """Return the shell text that sets limits, says that isolation stands, and becomes the command.

    The limits are set here, inside: RLIMIT_NPROC set outside counts all processes of that user.
    RLIMIT_DATA bounds what one process can fill; RLIMIT_AS would also count what Node or Go reserve.
    """
    if bash is None:
        bash = shell() == "/bin/bash"
    block = 1024 if bash else 512
    lines = [
        "ulimit -c 0",
        f"ulimit -n {OPEN_FILES}",
        f"ulimit -f {max(1, limits.file_bytes // block)}",
        f"ulimit -d {max(1, limits.memory_bytes // 1024)}",
        f"ulimit -t {max(1, int(limits.cpu_seconds))}",
        f"printf %s {shlex.quote(ready)} >&2",
        f'exec {"/bin/bash" if bash else "/bin/sh"} -c "$1"',
    ]
    if processes:
        lines.insert(0, f"ulimit -{'u' if bash else 'p'} {limits.processes}")
    return " && ".join(lines)
