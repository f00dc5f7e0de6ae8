"""A small world to attack: a workspace, secrets and victims beside it, and listeners around it.

Everything is planted by the test itself, so an attack that succeeds harms nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.ports import Sandbox

MB = 1024**2
LIMITS = Limits(
    memory_bytes=150 * MB,
    processes=40,
    cpu_seconds=1.0,
    file_bytes=4 * MB,
    tmp_bytes=16 * MB,
    output_bytes=100_000,
)
WON = "ATTACK-WON"

_libc = ctypes.CDLL(None, use_errno=True)


def running(marker: str) -> list[int]:
    """Return processes of this machine that have an argument of exactly this text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "cmdline").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


@dataclass
class World:
    """What surrounds the sandbox, and how to see whether an attack got at it."""

    folder: Path
    canary: str
    victim: subprocess.Popen[bytes] | None = None
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    fd: int = -1
    groups: list[int] = field(default_factory=list)
    """Process groups of attacks that ran without a sandbox: all of them end with the test."""

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def outside(self) -> Path:
        return self.folder / "outside"

    @property
    def environment(self) -> Environment:
        root = self.folder / "environment"
        return Environment(id="e", root=root, path=(root / "bin",))

    @property
    def tag(self) -> str:
        """A name that is this world's alone."""
        return self.canary[-12:]

    def variables(self, *, inside: bool) -> dict[str, str]:
        """Return what the attacker knows: every address and path it could want."""
        names = {
            "SECRET": self.outside / "secret",
            "TARGET": self.outside / "target",
            "OUT": self.outside,
            "FAKE_HOME": self.folder / "home",
            "OTHER": self.folder / "other",
            "ENVIRONMENT": self.folder / "environment",
            "PREFIX": sys.base_prefix,
            "TAG": self.tag,
            "WON": WON,
            "PARENT": os.getpid(),
            "LEAKED_FD": self.fd,
            "SLEEP": f"777.{int(self.tag, 16) % 10**9:09d}",
            "KEY": int(self.tag[:7], 16),
            # No traffic may leave this machine without a sandbox: a loopback address stands in.
            "METADATA": "169.254.169.254" if inside else "127.0.0.254",
            "LOOKUP": "example.com" if inside else "localhost",
        }
        if self.victim is not None:
            names["VICTIM"] = self.victim.pid
        for name, sock in self.sockets.items():
            address = sock.getsockname()
            if isinstance(address, tuple):
                names[name] = address[1]
            else:
                names[name] = address[1:].decode() if isinstance(address, bytes) else address
        return {name: str(value) for name, value in names.items()}

    def reached(self) -> bool:
        """Tell whether anything arrived at any listener."""
        for sock in self.sockets.values():
            with contextlib.suppress(BlockingIOError):
                if sock.type == socket.SOCK_DGRAM:
                    sock.recv(1)
                else:
                    sock.accept()[0].close()
                return True
        return False

    def target_changed(self) -> bool:
        """Tell whether the planted file outside is not as it was planted."""
        target = self.outside / "target"
        names = sorted(p.name for p in self.outside.iterdir())
        return (
            not target.exists()
            or target.read_text() != "untouched"
            or target.stat().st_mode & 0o777 != 0o644
            or names != ["docker.sock", "secret", "target"]
        )

    def survivors(self) -> list[int]:
        """Return processes that the attack left behind on this machine."""
        return running(self.variables(inside=True)["SLEEP"])

    def victim_lives(self) -> bool:
        """Tell whether the victim runs as it was started."""
        return self.victim is not None and self.victim.poll() is None

    def queue_exists(self) -> bool:
        """Tell whether a message queue of this world's key exists on this machine."""
        return bool(_libc.msgget(int(self.tag[:7], 16), 0) >= 0)


@contextlib.contextmanager
def made(folder: Path, *, victim: bool) -> Iterator[World]:
    """Plant a world in a folder and clear it away."""
    world = World(folder, f"canary-{secrets.token_hex(12)}")
    for name in ("workspace", "outside", "home/.ssh", "other/.git/hooks", "environment/bin"):
        (folder / name).mkdir(parents=True)
    (world.outside / "secret").write_text(world.canary)
    (world.outside / "target").write_text("untouched")
    (world.outside / "target").chmod(0o644)
    (folder / "home/.ssh/id_rsa").write_text(world.canary)
    (folder / "other/code.py").write_text(world.canary)
    (folder / "environment/bin/tool").write_text("#!/bin/sh\n")
    world.fd = os.open(world.outside / "secret", os.O_RDONLY)
    os.set_inheritable(world.fd, True)
    _listen(world)
    if victim:
        code = "import os,sys,time;f=open(sys.argv[1]);print('up',flush=True);time.sleep(60)"
        world.victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, str(world.outside / "secret"), world.canary],
            env={"VICTIM_SECRET": world.canary},
            cwd=world.outside,
            stdout=subprocess.PIPE,
        )
        assert world.victim.stdout is not None
        world.victim.stdout.readline()
    try:
        yield world
    finally:
        _clear(world)


def _listen(world: World) -> None:
    for name, family, kind, address in (
        ("TCP", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("TCP6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
        ("ANY", socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0)),
        ("UDP", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ("UNIX", socket.AF_UNIX, socket.SOCK_STREAM, str(world.outside / "docker.sock")),
        ("ABSTRACT", socket.AF_UNIX, socket.SOCK_STREAM, f"\0phoenix-{world.tag}"),
        ("DATAGRAM", socket.AF_UNIX, socket.SOCK_DGRAM, f"\0phoenix-dgram-{world.tag}"),
    ):
        sock = socket.socket(family, kind)
        if family == socket.AF_UNIX and isinstance(address, str) and len(address) > 100:
            here = os.open(world.outside, os.O_PATH)  # the path is too long for a socket address
            sock.bind(f"/proc/self/fd/{here}/docker.sock")
            os.close(here)
        else:
            sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(8)
        sock.setblocking(False)
        world.sockets[name] = sock


def _clear(world: World) -> None:
    for group in world.groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for pid in world.survivors():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for sock in world.sockets.values():
        sock.close()
    os.close(world.fd)
    if world.victim is not None:
        world.victim.kill()
        world.victim.wait()
        assert world.victim.stdout is not None
        world.victim.stdout.close()
    queue = _libc.msgget(int(world.tag[:7], 16), 0)
    if queue >= 0:
        _libc.msgctl(queue, 0, None)
    for folder in ("/tmp", "/dev/shm", "/usr/local", sys.base_prefix):
        for path in Path(folder).glob(f"phoenix-{world.tag}*"):
            path.unlink()


Seen = Callable[[World, ExecuteResult], bool]


def leaks(world: World, result: ExecuteResult) -> bool:
    """Succeeded when the planted secret was printed."""
    return world.canary in result.stdout


def says(world: World, result: ExecuteResult) -> bool:
    """Succeeded when the attack itself saw that it did."""
    return WON in result.stdout


def changes(world: World, result: ExecuteResult) -> bool:
    """Succeeded when something outside is not as it was planted."""
    return world.target_changed()


def reaches(world: World, result: ExecuteResult) -> bool:
    """Succeeded when a listener was reached."""
    return world.reached()


def survives(world: World, result: ExecuteResult) -> bool:
    """Succeeded when a process is left."""
    return bool(world.survivors())


@dataclass(frozen=True)
class Attack:
    """One attack: a command, and how to see from outside that it succeeded."""

    name: str
    command: str
    won: Seen = says
    victim: bool = False
    seconds: float = 5.0
    bare_seconds: float = 5.0
    """How long it may take without a sandbox, before it is asked to end."""
    root: bool = False
    """Without a sandbox it succeeds only as root."""
    needs: str = ""
    """A shell test that tells whether this machine has what the attack needs at all."""
    download: str = ""
    """A path that is read from the workspace after the command."""
    upload: str = ""
    """A path that is written into the workspace after the command."""
    open_to: tuple[str, ...] = ()
    """Sandboxes that are known not to stop it; the table says why."""


def py(code: str) -> str:
    """Return a command that runs Python text."""
    return f"python3 -IS - <<'PY'\n{code}\nPY"


async def inside(attack: Attack, world: World, sandbox: Sandbox) -> ExecuteResult:
    """Run an attack in a sandbox, then read and write what it asks for as Phoenix would."""
    from phoenix.errors import PathRefused

    variables = world.variables(inside=True)
    result = await sandbox.execute(
        attack.command, timeout_seconds=attack.seconds, limits=LIMITS, variables=variables
    )
    text = result.stdout
    with contextlib.suppress(PathRefused):
        if attack.download:
            text += "".join(d.decode() for d in (await sandbox.download([attack.download])).values())
        if attack.upload:
            await sandbox.upload({attack.upload: b"planted"})
    return ExecuteResult(result.exit_code, text, result.stderr, result.seconds, result.killed)


async def bare(attack: Attack, world: World) -> ExecuteResult:
    """Run an attack as a plain child process would, and read and write files as plain code would."""
    start = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        "/bin/bash",
        "-c",
        attack.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=world.workspace,
        env={
            **os.environ,
            **world.variables(inside=False),
            "PATH": f"{sys.base_prefix}/bin:{os.environ['PATH']}",
            "INHERITED_SECRET": world.canary,
        },
        pass_fds=[world.fd],
        start_new_session=True,
    )
    world.groups.append(process.pid)
    killed = ""
    try:
        async with asyncio.timeout(attack.bare_seconds):
            out, err = await process.communicate()
    except TimeoutError:
        killed, out, err = "timeout", b"", b""
        process.terminate()
        await asyncio.sleep(0.05)
    survivors = world.survivors()
    with contextlib.suppress(ProcessLookupError):
        if not survivors:
            os.killpg(process.pid, signal.SIGKILL)
    if killed and not survivors:
        await process.wait()
    text = out.decode("utf-8", "replace")
    if attack.download:
        text += (world.workspace / attack.download).read_text()
    if attack.upload:
        (world.workspace / attack.upload).write_bytes(b"planted")
    return ExecuteResult(process.returncode, text, err.decode(), time.monotonic() - start, killed)
