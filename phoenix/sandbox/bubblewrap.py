"""Sandboxes of bubblewrap: own namespaces, a system made of read-only mounts, a system-call filter."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox import seccomp
from phoenix.sandbox.descriptor import read_to_end, readable
from phoenix.sandbox.folder import Folder
from phoenix.sandbox.process import refusal, run
from phoenix.sandbox.shell import prelude, shell
from phoenix.sandbox.system import ETC, python_roots
from phoenix.sandbox.usage import INODE_BYTES, Usage, measure, pids_in

ROOT = "/workspace"
HOME = "/tmp/home"  # noqa: S108 - inside the sandbox, private to one command
INNER_ID = 1000
END_SECONDS = 10.0
HINT = (
    "Install bubblewrap (apt install bubblewrap, dnf install bubblewrap) and allow user namespaces "
    "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)."
)

_ETC_TEXT = {
    "passwd": f"root:x:0:0:root:/nonexistent:/bin/sh\nphoenix:x:{INNER_ID}:{INNER_ID}::{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "group": f"root:x:0:\nphoenix:x:{INNER_ID}:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
}
# Parts of /proc that belong to the whole machine: its root user may write or read them even without
# any capability, and this process may be root.
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys")
_PROC_HIDDEN = (
    "acpi",
    "asound",
    "config.gz",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "mtrr",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
)
_NAMESPACES = (
    "--unshare-user",
    "--unshare-ipc",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-uts",
    "--unshare-cgroup-try",
)


@functools.cache
def _program() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable("bubblewrap is not installed.", hint=HINT)
    return found


@functools.cache
def _knows(option: str) -> bool:
    shown = subprocess.run([_program(), "--help"], capture_output=True, text=True, check=False, env={})
    return option in shown.stdout + shown.stderr


def _memory_file(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@dataclass
class _Box:
    """One start of bubblewrap."""

    argv: list[str | bytes]
    ready: bytes
    pass_fds: list[int]
    info: int
    hint: str = HINT
    variables: Mapping[str, str] = field(default_factory=dict)
    """Empty: what bwrap itself is started with can be read inside as /proc/1/environ."""
    _inside: int = 0
    _pidfd: int = -1

    async def started(self, pid: int) -> None:
        """Learn the id of the namespace's first process: its end is the end of all others."""
        for fd in self.pass_fds:
            os.close(fd)
        self.pass_fds = []
        told = await read_to_end(self.info, END_SECONDS)
        if not told:
            return  # bwrap has failed, and says why on its error stream
        self._inside = int(json.loads(told)["child-pid"])
        try:
            self._pidfd = os.pidfd_open(self._inside)
        except ProcessLookupError:
            return
        if not _is_child(self._inside, pid):  # it ended, and its number was given to another
            os.close(self._pidfd)
            self._pidfd = -1

    def usage(self) -> Usage | None:
        """Measure through the sandbox's own /proc, which lists its processes and no others."""
        if self._pidfd < 0:
            return None
        root = Path(f"/proc/{self._inside}/root")
        try:
            usage = measure(root / "proc", pids_in(root / "proc"))
            files = os.statvfs(root / "tmp"), os.statvfs(root / "dev/shm")
        except OSError:
            return None  # it is just ending, or has not yet changed its root
        inodes = sum(f.f_files - f.f_ffree for f in files)
        return Usage(
            usage.processes,
            usage.cpu_seconds,
            usage.memory_bytes + inodes * INODE_BYTES,
            usage.pids,
            usage.proc,
        )

    async def end(self) -> None:
        """Kill the namespace's first process and wait until the kernel has ended all others."""
        if self._pidfd < 0:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return
        if not await readable(self._pidfd, END_SECONDS):
            raise SandboxUnavailable("The sandbox did not end when it was killed.")

    def close(self) -> None:
        """Close all descriptors."""
        for fd in (*self.pass_fds, self.info, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self.pass_fds, self.info, self._pidfd = [], -1, -1


def _is_child(pid: int, parent: int) -> bool:
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True  # gone meanwhile: the descriptor says so at once
    return int(data[data.rindex(b")") + 2 :].split()[1]) == parent


class BubblewrapSandbox(Folder):
    """Runs commands in fresh namespaces over one folder, seen inside as /workspace."""

    kind = "bubblewrap"
    root = ROOT

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
        box = self._box(command, limits, variables)
        return await run(box, timeout_seconds=timeout_seconds, limits=limits)

    def _box(self, command: str, limits: Limits, variables: Mapping[str, str] | None) -> _Box:
        program, workspace, roots = _program(), self.require(), python_roots()
        ready = f"[{secrets.token_hex(16)}]"
        info, info_inside = os.pipe2(os.O_CLOEXEC)
        box = _Box(argv=[program], ready=ready.encode(), pass_fds=[info_inside], info=info)
        try:
            argv = [*_NAMESPACES, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
            argv += ["--uid", str(INNER_ID), "--gid", str(INNER_ID), "--hostname", "sandbox"]
            argv += ["--info-fd", str(info_inside)]
            argv += ["--disable-userns"] if _knows("--disable-userns") else []
            argv += self._system(box, roots, limits)
            argv += ["--ro-bind" if self.read_only else "--bind", str(workspace), ROOT]
            if self.environment is not None:
                argv += ["--ro-bind", str(self.environment.root), str(self.environment.root)]
            argv += ["--remount-ro", "/", "--chdir", ROOT]
            python = [f"{p}/bin" for p in roots]
            tmp = "/tmp"  # noqa: S108 - inside the sandbox
            inner = self.inner_variables(variables, home=HOME, tmp=tmp, python=python)
            for name, value in inner.items():
                argv += ["--setenv", name, value]
            box.argv += [*argv, "--", shell(), "-c", prelude(ready, limits), "phoenix"]
            box.argv.append(command.encode("utf-8", "replace"))
        except BaseException:
            box.close()
            raise
        return box

    def _system(self, box: _Box, roots: list[str], limits: Limits) -> list[str]:
        """Return the mounts of the system that commands see."""
        argv = ["--ro-bind", "/usr", "/usr"]
        for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            top = Path("/") / name
            if top.is_symlink():
                argv += ["--symlink", str(top.readlink()), str(top)]
            elif top.is_dir():
                argv += ["--ro-bind", str(top), str(top)]
        for name in (*ETC, *(p.name for p in Path("/etc").glob("java*"))):
            argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for name, text in _ETC_TEXT.items():
            fd = _memory_file(name, text.encode())
            box.pass_fds.append(fd)
            argv += ["--perms", "0644", "--ro-bind-data", str(fd), f"/etc/{name}"]
        for folder in roots:
            argv += ["--ro-bind", folder, folder]
        argv += ["--proc", "/proc", *_proc_mounts(), "--dev", "/dev", "--remount-ro", "/dev"]
        tmp, shm = str(limits.tmp_bytes), str(max(limits.tmp_bytes // 4, 1024**2))
        argv += ["--perms", "1777", "--size", shm, "--tmpfs", "/dev/shm"]  # noqa: S108
        argv += ["--perms", "1777", "--size", tmp, "--tmpfs", "/tmp", "--dir", HOME]  # noqa: S108
        argv += ["--dir", "/var", "--symlink", "/tmp", "/var/tmp", "--dir", "/run"]  # noqa: S108
        program = seccomp.program()
        if program is not None:
            fd = _memory_file("seccomp", program)
            box.pass_fds.append(fd)
            argv += ["--seccomp", str(fd)]
        return argv


def _proc_mounts() -> list[str]:
    argv: list[str] = []
    for name in _PROC_READ_ONLY:
        if Path("/proc", name).is_dir():
            argv += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in _PROC_HIDDEN:
        path = Path("/proc", name)
        if path.is_dir():
            argv += ["--perms", "0555", "--tmpfs", str(path), "--remount-ro", str(path)]
        elif path.exists():
            argv += ["--ro-bind", "/dev/null", str(path)]
    return argv


class BubblewrapSandboxes:
    """Opens bubblewrap sandboxes."""

    kind = "bubblewrap"

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> BubblewrapSandbox:
        """Return a sandbox over a folder. Costs nothing until it executes."""
        return BubblewrapSandbox(workspace, environment, read_only)
