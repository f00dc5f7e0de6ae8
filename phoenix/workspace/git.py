"""Run git so that nothing of a foreign repository or of the user's own configuration takes part."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from phoenix.errors import DiskFull, GitFailed, PhoenixError
from phoenix.telemetry import tracing
from phoenix.telemetry.redaction import hide_addresses, mask

OLDEST = (2, 38)
"""`merge-tree --write-tree` came with this version."""

_PASSED_ON = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.pager=cat",
    "core.askPass=",
    "core.quotePath=false",
    "core.filesRefLockTimeout=0",
    "core.packedRefsTimeout=0",
    "credential.helper=",
    "gc.auto=0",
    "maintenance.auto=false",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=30",
)
_FULL = re.compile(rb"no space left on device|disk quota exceeded|out of diskspace", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Answer:
    """What a git command printed, and its exit code."""

    code: int
    out: bytes
    err: bytes


class Git:
    """The git command line over one bare repository."""

    def __init__(self, repository: Path, *, protocols: str = "") -> None:
        """Bind to a repository.

        Args:
            repository: The bare repository; it may not exist yet.
            protocols: What a fetch may use, with colons between, such as `https:ssh`.
        """
        self.repository = repository
        self._protocols = protocols or "none"

    def run(
        self,
        *args: str,
        stdin: bytes = b"",
        expect: Sequence[int] = (0,),
        timeout_seconds: float = 60.0,
        hold: int | None = None,
    ) -> Answer:
        """Run one command to its end.

        Args:
            args: The command and its arguments.
            stdin: What it reads.
            expect: Exit codes that are answers, not failures.
            timeout_seconds: It is killed, with all it started, after this long.
            hold: A lock's file descriptor; the lock stays held while git lives, even without us.

        Raises:
            DiskFull: git said that there is no space.
            GitFailed: any other exit code, or it took too long.
        """
        with self.talk(*args, expect=expect, timeout_seconds=timeout_seconds, hold=hold) as talk:
            out = talk.communicate(stdin)
        return Answer(talk.code, out, talk.err)

    @contextmanager
    def talk(
        self,
        *args: str,
        expect: Sequence[int] = (0,),
        timeout_seconds: float = 60.0,
        hold: int | None = None,
        work_tree: Path | None = None,
    ) -> Iterator[Talk]:
        """Open a command to speak with; leaving the block ends it.

        Raises:
            DiskFull, GitFailed: as `run`, when the block is left.
        """
        check_version()
        command = ["git", *(part for pair in _CONFIG for part in ("-c", pair)), *args]
        with (
            tracing.leaf("git", f"git {args[0]}"),
            tempfile.TemporaryFile() as errors,
            _started(
                command, self._environment(work_tree), errors, hold, work_tree or self.repository.parent
            ) as process,
        ):
            talk = Talk(process, errors)
            watchdog = threading.Timer(timeout_seconds, talk.stop, args=("timeout",))
            watchdog.start()
            try:
                yield talk
                talk.finish()
            except BrokenPipeError:
                talk.finish()
            finally:
                watchdog.cancel()
                talk.stop("left")
        if talk.stopped == "timeout":
            raise GitFailed(f"git {args[0]} took longer than {timeout_seconds:g} s and was stopped.")
        if talk.code not in expect and talk.stopped != "enough":
            raise failure(args[0], talk.err)

    def _environment(self, work_tree: Path | None) -> dict[str, str]:
        mine = {
            "GIT_DIR": str(self.repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ATTR_GLOBAL": "/dev/null",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
            "GIT_ALLOW_PROTOCOL": self._protocols,
            "GIT_DEFAULT_HASH": "sha1",
            "GIT_DEFAULT_REF_FORMAT": "files",
            "GIT_TEMPLATE_DIR": "",
            "HOME": "/nonexistent",
            "LC_ALL": "C",
        }
        if work_tree is not None:
            mine["GIT_WORK_TREE"] = str(work_tree)
        names = (*_PASSED_ON, *_PROXIES, *(n.upper() for n in _PROXIES))
        return mine | {name: os.environ[name] for name in names if name in os.environ}


class Talk:
    """A running git command. Its pipes block, so it lives in a thread that may wait."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout
        self.stopped = ""
        self.err = b""
        self._process = process
        self._errors = errors

    @property
    def code(self) -> int:
        return -1 if self._process.returncode is None else self._process.returncode

    def communicate(self, data: bytes) -> bytes:
        """Send all, read all."""
        out, _ = self._process.communicate(data)
        return out

    def finish(self) -> None:
        """Close both pipes and wait for the end."""
        for pipe in (self.stdin, self.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # git is gone already; its exit code and last words tell why
        self._process.wait()
        self._errors.seek(0)
        self.err = self._errors.read(100_000)

    def stop(self, why: str) -> None:
        """Kill it with all it started, unless it has ended. `enough` means we have what we wanted."""
        if self._process.poll() is None:
            self.stopped = why
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


@contextmanager
def _started(
    command: list[str], environment: dict[str, str], errors: IO[bytes], hold: int | None, folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        cwd=folder,
        start_new_session=True,
        pass_fds=() if hold is None else (hold,),
    ) as process:
        yield process


@functools.cache
def check_version() -> None:
    """Check that git is there and new enough; asked once a process.

    Raises:
        GitFailed: it is not.
    """
    hint = f"Install git {OLDEST[0]}.{OLDEST[1]} or newer."
    try:
        said = subprocess.run(["git", "version"], capture_output=True, timeout=30, check=False).stdout
    except FileNotFoundError as error:
        raise GitFailed("There is no git on this machine.", hint=hint) from error
    found = re.search(rb"(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise GitFailed(f"{readable(said)} is too old.", hint=hint)


def failure(command: str, err: bytes) -> PhoenixError:
    """Return the error that git's last line stands for."""
    if _FULL.search(err):
        return DiskFull(hint="Free some space, then resume.")
    lines = [line for line in err.splitlines() if line.strip()]
    said = readable(lines[-1]) if lines else "no reason given"
    return GitFailed(f"git {command} failed: {said}")


def readable(text: bytes) -> str:
    """Return foreign text on one line: capped, control characters escaped, passwords in URLs hidden."""
    line = text.decode("utf-8", "replace").strip()[:300]
    line = mask(hide_addresses(line))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def commit_id(value: str) -> str:
    """Return the value when it is a full commit id.

    Raises:
        GitFailed: it is not, so it may be an option or an expression.
    """
    if not _COMMIT.fullmatch(value):
        raise GitFailed(f"{value[:100]!r} is not a commit id.", hint="Give all 40 hex digits.")
    return value
