"""Sandboxes of sandlock: Landlock and seccomp, for machines without bubblewrap or namespaces.

The workspace keeps its own path inside. What namespaces would give is missing: there is no private
/tmp or /dev/shm (TMPDIR names a private folder instead), and no loopback network of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox import seccomp
from phoenix.sandbox.folder import Folder
from phoenix.sandbox.guarded import Guarded
from phoenix.sandbox.process import refusal, run
from phoenix.sandbox.system import ETC, python_roots

HINT = "sandlock needs Linux 6.7 or newer with Landlock (ABI 6); check `cat /sys/kernel/security/lsm`."

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/proc")
_ETC_NAMES = ("passwd", "group", "nsswitch.conf")
_READ_DEVICES = ("/dev/urandom", "/dev/random", "/dev/zero", "/dev/full")
_DENIED = (
    "kexec_file_load",
    "process_vm_readv",
    "fanotify_init",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsmount",
    "mount_setattr",
    "chroot",
    "syslog",
)


# sandlock's own filter cannot look at arguments; this one goes on top, inside.
_APPLY = """
import ctypes, os, sys
code = bytes.fromhex(sys.argv[1])
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
held = ctypes.create_string_buffer(code, len(code))
program = Program(len(code) // 8, ctypes.addressof(held))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit("the system-call filter could not be loaded")
os.execv(sys.argv[2], sys.argv[2:])
"""


def _filtered() -> list[str]:
    """Return the program that loads Phoenix's filter and then becomes the shell."""
    program = seccomp.program(shared=True)
    if program is None:
        raise SandboxUnavailable(
            "The system-call filter is not written for this architecture.", hint="Use bubblewrap or docker."
        )
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", _APPLY, program.hex()]


class SandlockSandbox(Folder):
    """Runs commands under Landlock over one folder, which keeps its own path."""

    kind = "sandlock"

    def __init__(self, workspace: Path, environment: Environment | None, read_only: bool) -> None:
        super().__init__(workspace, environment, read_only)
        self.root = str(self.workspace.resolve())

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        """Run a shell command in the workspace; return when it and all it started are gone.

        Raises:
            SandboxUnavailable: isolation could not be set up; the command did not run.
        """
        if refused := refusal(command):
            return refused
        limits = limits or Limits()
        workspace, roots = self.require(), python_roots()
        guarded = Guarded(limits, HINT)
        python = [f"{p}/bin" for p in roots]
        tmp = str(guarded.tmp)
        inner = self.inner_variables(variables, home=str(guarded.home), tmp=tmp, python=python)
        policy = self._policy(workspace, guarded.tmp, roots, inner, limits)
        guarded.prepare(command, inner, cwd=workspace, policy=policy, through=_filtered())
        return await run(guarded, timeout_seconds=timeout_seconds, limits=limits)

    def _policy(
        self, workspace: Path, tmp: Path, roots: list[str], inner: Mapping[str, str], limits: Limits
    ) -> dict[str, Any]:
        """Return sandlock's settings; its copy-on-write mode stays off (it breaks pytest and git)."""
        read = [*_SYSTEM, *(f"/etc/{n}" for n in (*ETC, *_ETC_NAMES)), *_READ_DEVICES, *roots]
        write = [str(tmp), "/dev/null"]
        (read if self.read_only else write).append(str(workspace))
        if self.environment is not None:
            read.append(str(self.environment.root))
        return {
            "fs_readable": [p for p in read if Path(p).exists()],
            "fs_writable": write,
            "clean_env": True,
            "env": dict(inner),
            "cwd": str(workspace),
            "max_processes": limits.processes,
            "extra_deny_syscalls": list(_DENIED),
            "no_coredump": False,
        }


class SandlockSandboxes:
    """Opens sandlock sandboxes."""

    kind = "sandlock"

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> SandlockSandbox:
        """Return a sandbox over a folder. Costs nothing until it executes."""
        return SandlockSandbox(workspace, environment, read_only)
