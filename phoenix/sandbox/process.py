"""Run one confined command: read its output, watch what it uses, and end all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from phoenix.domain.execution import ExecuteResult, Limits
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox.output import Capture, clean
from phoenix.sandbox.usage import Usage, exceeded

T = TypeVar("T")

COMMAND_BYTES = 120_000
"""Linux takes at most 128 KiB in one argument."""
FLOOD_FACTOR = 100
"""A command that prints this many times the kept output is killed."""
FLOOD_BYTES = 64 * 1024**2
WATCH_SECONDS = 0.05
"""Pause between two looks at what a tree uses; it grows with the cost of looking."""
WATCH_SHARE = 5
WATCH_MOST_SECONDS = 0.2
GRACE_SECONDS = 10.0
"""How long the streams may take to close when everything is dead."""


class Confinement(Protocol):
    """One start of a sandbox: what to run, and how to end everything in it."""

    @property
    def argv(self) -> Sequence[str | bytes]:
        """What to start."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment of the outermost process."""

    @property
    def pass_fds(self) -> Sequence[int]:
        """Descriptors that the outermost process inherits."""

    @property
    def ready(self) -> bytes:
        """The mark on the error stream: isolation stands, the command starts after it."""

    @property
    def hint(self) -> str:
        """What to do when isolation cannot be set up."""

    async def started(self, pid: int) -> None:
        """Take note of the outermost process."""

    def usage(self) -> Usage | None:
        """Measure all processes inside; None when that is not known now."""

    async def end(self) -> None:
        """Kill all that runs inside and return when nothing is left."""

    def close(self) -> None:
        """Release descriptors. Idempotent."""


def refusal(command: str) -> ExecuteResult | None:
    """Return the result of a command that no shell can be given; None when it can."""
    size = len(command.encode("utf-8", "replace"))
    if "\0" in command:
        return ExecuteResult(126, "", "The command contains a NUL character.\n", 0.0)
    if size > COMMAND_BYTES:
        text = f"The command has {size} bytes, more than {COMMAND_BYTES}: put it in a file and run that.\n"
        return ExecuteResult(126, "", text, 0.0)
    return None


async def uncancelled(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even when this task is cancelled meanwhile; then pass the cancellation on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        task.exception()
        raise cancelled
    return task.result()


class _Tap(asyncio.SubprocessProtocol):
    """Feeds the two streams into captures and says when the process and both streams have ended."""

    def __init__(self, limits: Limits, ready: bytes) -> None:
        self.stdout = Capture(limits.output_bytes)
        self.stderr = Capture(limits.output_bytes, ready)
        self.flood_bytes = max(FLOOD_BYTES, FLOOD_FACTOR * limits.output_bytes)
        self.transport: asyncio.SubprocessTransport | None = None
        self.pidfd = -1
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        self.wake = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.stdout if fd == 1 else self.stderr).feed(data)
        if self.flooded:
            self.wake.set()

    def process_exited(self) -> None:
        self.exited.set()
        self.wake.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()

    @property
    def exit_code(self) -> int | None:
        return self.transport.get_returncode() if self.transport else None

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.pidfd = -1

    @property
    def flooded(self) -> bool:
        return self.stdout.total + self.stderr.total > self.flood_bytes


async def run(confinement: Confinement, *, timeout_seconds: float, limits: Limits) -> ExecuteResult:
    """Run the confined command to its end, or kill it; nothing of it is left afterwards.

    Raises:
        SandboxUnavailable: isolation could not be set up; the command did not run.
    """
    start = time.monotonic()
    tap = _Tap(limits, confinement.ready)
    try:
        await uncancelled(_spawn(confinement, tap))
        killed = await _watch(confinement, tap, start + timeout_seconds, limits)
    finally:
        await uncancelled(_finish(confinement, tap))
    seconds = time.monotonic() - start
    if not tap.stderr.ready and not killed:
        said = clean(bytes(tap.stderr.before)).strip() or f"exit code {tap.exit_code}"
        first = said.splitlines()[0][:300].rstrip(".")
        raise SandboxUnavailable(f"The sandbox could not be set up: {first}.", hint=confinement.hint)
    return ExecuteResult(
        exit_code=None if killed else tap.exit_code,
        stdout=tap.stdout.text(),
        stderr=tap.stderr.text(),
        seconds=seconds,
        killed=killed,
        truncated=tap.stdout.truncated or tap.stderr.truncated,
    )


async def _spawn(confinement: Confinement, tap: _Tap) -> None:
    loop = asyncio.get_running_loop()
    try:
        tap.transport, _ = await loop.subprocess_exec(
            lambda: tap,
            *confinement.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(confinement.variables),
            pass_fds=tuple(confinement.pass_fds),
            start_new_session=True,
            cwd="/",
        )
    except OSError as error:
        raise SandboxUnavailable(
            f"The sandbox could not be started: {error.strerror} ({os.fsdecode(confinement.argv[0])}).",
            hint=confinement.hint,
        ) from error
    pid = tap.transport.get_pid()
    with contextlib.suppress(ProcessLookupError):
        tap.pidfd = os.pidfd_open(pid)
    await confinement.started(pid)


async def _watch(confinement: Confinement, tap: _Tap, deadline: float, limits: Limits) -> str:
    """Return when the command has ended or must end; say why it must."""
    pause = WATCH_SECONDS
    while not tap.exited.is_set():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return "timeout"
        try:
            async with asyncio.timeout(min(pause, remaining)):
                await tap.wake.wait()
        except TimeoutError:
            before = time.monotonic()
            usage = confinement.usage()
            cost = time.monotonic() - before
            pause = min(max(WATCH_SECONDS, WATCH_SHARE * cost), WATCH_MOST_SECONDS)
            if usage is not None and (reason := exceeded(usage, limits)):
                return reason
        if tap.flooded:
            return "output"
    return ""


async def _finish(confinement: Confinement, tap: _Tap) -> None:
    """End what is left; when nothing was started, only release what is held."""
    try:
        if tap.transport is None:
            return
        await confinement.end()
        # Not transport.kill(): it polls first, and may reap the process under the loop's watcher.
        if tap.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(tap.pidfd, signal.SIGKILL)
        await tap.exited.wait()
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await tap.closed.wait()
        except TimeoutError as error:
            raise SandboxUnavailable("Something that the command started holds its output open.") from error
    finally:
        if tap.transport is not None:
            tap.transport.close()
        confinement.close()
        tap.close()
