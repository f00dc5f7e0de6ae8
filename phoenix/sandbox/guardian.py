"""The process between Phoenix and a command that has no pid namespace: it ends all that was started.

Run as a script by itself, so it imports nothing of Phoenix. As a child subreaper every orphan of
the command becomes its child; it kills until it has none left. When Phoenix dies, it is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 24, 36
_CAPSET_X86, _CAPSET_OTHER = 126, 91
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
PAUSE_SECONDS = 0.002
FAILED = 125
"""Exit code when the command could not be started."""


def descendants(root: int) -> list[int]:
    """Return the ids of all processes below one, which is not among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names only, and fast
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError):
            data = Path("/proc", name, "stat").read_bytes()
            parent = int(data[data.rindex(b")") + 2 :].split()[1])
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [root]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _end_all() -> None:
    """Kill descendants until there is not even a zombie."""
    while True:
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(PAUSE_SECONDS)


def _drop_capabilities() -> None:
    """Give up every capability for good, so that root inside is root in name only."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    none = (ctypes.c_uint32 * 6)()
    number = _CAPSET_X86 if os.uname().machine == "x86_64" else _CAPSET_OTHER
    if libc.syscall(number, header, none) != 0:
        raise OSError(ctypes.get_errno(), "capabilities could not be dropped")


def _confined(policy: dict[str, Any], argv: list[str]) -> int:
    """Run the command under sandlock and return its exit code."""
    import sandlock

    # Capabilities go first: as root they would let the command undo limits.
    _drop_capabilities()
    warnings.simplefilter("ignore")
    code = int(sandlock.Sandbox(**policy).run_interactive(argv))
    return code if code >= 0 else 128 + signal.SIGKILL  # sandlock does not tell which signal


def _start(job: dict[str, Any]) -> None:
    """Become the command; never return."""
    code = FAILED
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if job["policy"] is None:
            os.chdir(job["cwd"])
            os.execve(job["argv"][0], job["argv"], job["variables"])  # noqa: S606
        code = _confined(job["policy"], job["argv"])
    except Exception as error:  # noqa: BLE001 - a forked child reports whatever it was and ends
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    os._exit(code if 0 <= code < 256 else FAILED)


def main() -> None:
    """Run the job given as JSON in the first argument, which also names Phoenix's process id."""
    job = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    waited = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    if os.getppid() != job["parent"]:
        return
    child = os.fork()
    if child == 0:
        os.close(job["info"])
        _start(job)
    os.write(job["info"], str(child).encode())
    os.close(job["info"])
    code = FAILED
    while signal.sigwait(waited) == signal.SIGCHLD:
        done, status = os.waitpid(child, os.WNOHANG)
        if done == child:
            code = os.waitstatus_to_exitcode(status)
            break
    _end_all()
    if os.getppid() != job["parent"]:  # nobody else is left to tidy up
        import shutil

        shutil.rmtree(job["tmp"], ignore_errors=True)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
