"""PostgreSQL as an operator would run it: a primary, a synchronous standby, crashes and failovers."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from phoenix.storage.embedded import _programs
from phoenix.storage.unprivileged import account_for

START_SECONDS = 60.0
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "300",
    "shared_buffers": "64MB",
    # The machine itself never goes down here, only processes do.
    "fsync": "off",
    "synchronous_commit": "on",
    "wal_level": "replica",
    "max_wal_senders": "8",
    "wal_keep_size": "512MB",
    # Commits wait for the standby, so it must not wait 5 s before it follows a primary that is back.
    "wal_retrieve_retry_interval": "200ms",
    "max_wal_size": "1GB",
    "io_method": "sync",
    "jit": "off",
}
PRIVATE = 0o700


class Server:
    """One PostgreSQL server in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.sockets = folder / "data", folder / "s"
        self._account = account_for(folder / "none", _programs())
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=PRIVATE, parents=True)
        self.sockets.mkdir(mode=PRIVATE)
        for path in (folder, self.sockets):
            self._account.own(path)

    @property
    def address(self) -> str:
        """Return what libpq connects to it with."""
        return f"host={self.sockets} port=5432 user=phoenix dbname=postgres"

    def create(self) -> None:
        """Make an empty database."""
        self._program(
            "initdb", "--no-sync", "-D", str(self.data), "-U", "phoenix", "-A", "trust", "-E", "UTF8"
        )
        (self.data / "pg_hba.conf").write_text("local all all trust\nlocal replication all trust\n")
        self._configure()

    def clone(self, primary: Server) -> None:
        """Make a standby of a primary; it follows once it is started."""
        source = ("-d", primary.address, "-R", "-X", "stream", "-c", "fast")
        self._program("pg_basebackup", "-D", str(self.data), *source)
        self._configure()

    def _configure(self) -> None:
        values = {**SETTINGS, "unix_socket_directories": str(self.sockets)}
        lines = [f"{name} = '{value}'\n" for name, value in values.items()]
        (self.data / "postgresql.conf").write_text("".join(lines))

    async def start(self) -> None:
        """Start it and wait until it answers; what a killed one left is waited for."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                with (self.folder / "log").open("ab") as log:
                    self._process = subprocess.Popen(
                        [*self._account.prefix, str(_programs() / "postgres"), "-D", str(self.data)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=dict(self._account.environment),
                        cwd="/",
                        start_new_session=True,
                    )
                while self._process.poll() is None:
                    if await self._answers():
                        return
                    await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            await self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def ask(self, query: str) -> object:
        """Return the first value that a query gives."""
        async with await psycopg.AsyncConnection.connect(self.address, autocommit=True) as connection:
            cursor = await connection.execute(query.encode())
            row = await cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def crash(self, *, whole: bool) -> None:
        """Kill the postmaster without warning; `whole` takes its backends too, as when a machine is lost."""
        assert self._process is not None
        backends = psutil.Process(self._process.pid).children(recursive=True) if whole else []
        self._process.send_signal(signal.SIGKILL)
        for backend in backends:
            try:
                backend.kill()
            except psutil.NoSuchProcess:
                continue
        self._process.wait()

    def stop(self) -> None:
        """Stop it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def _program(self, name: str, *arguments: str) -> None:
        subprocess.run(
            [*self._account.prefix, str(_programs() / name), *arguments],
            check=True,
            capture_output=True,
            env=dict(self._account.environment),
            cwd="/",
        )


class Cluster:
    """A primary with a synchronous standby, behind one address that moves when the standby takes over.

    The address is a folder's symbolic link to the present primary's socket: what a service's name or a proxy
    is to a cluster, at no cost.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._address = folder / "now"
        self.primary = self._new()
        self.standby: Server | None = None

    @property
    def url(self) -> str:
        """Return the database's URL, whoever serves it."""
        return f"postgresql://phoenix@/postgres?host={quote(str(self._address))}&port=5432"

    async def start(self) -> None:
        """Start both servers."""
        await asyncio.to_thread(self.primary.create)
        await self.primary.start()
        self._point_at(self.primary)
        await self.add_standby()

    async def add_standby(self) -> None:
        """Give the primary a standby, and have it wait for that one with every commit."""
        standby = self._new()
        await asyncio.to_thread(standby.clone, self.primary)
        await standby.start()
        async with asyncio.timeout(START_SECONDS):
            while await self.primary.ask("SELECT state FROM pg_stat_replication") != "streaming":
                await asyncio.sleep(0.05)
        await self.primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await self.primary.ask("SELECT pg_reload_conf()")
        async with asyncio.timeout(START_SECONDS):
            while await self.primary.ask("SELECT sync_state FROM pg_stat_replication") != "sync":
                await asyncio.sleep(0.05)
        self.standby = standby

    async def crash(self) -> None:
        """Kill the primary's postmaster and start it again."""
        self.primary.crash(whole=False)
        await self.primary.start()

    async def fail_over(self) -> None:
        """Lose the primary for good; its standby takes over. A new standby has yet to be added."""
        assert self.standby is not None
        self.primary.crash(whole=True)
        self.primary, self.standby = self.standby, None
        # It was cloned with its primary's settings, and has no standby to wait for.
        auto = self.primary.data / "postgresql.auto.conf"
        kept = [
            line for line in auto.read_text().splitlines(True) if not line.startswith("synchronous_standby")
        ]
        auto.write_text("".join(kept))
        await self.primary.ask("SELECT pg_reload_conf()")
        await self.primary.ask("SELECT pg_promote(true)")
        self._point_at(self.primary)

    def stop(self) -> None:
        """Stop both servers."""
        for server in (self.standby, self.primary):
            if server is not None:
                server.stop()

    def _new(self) -> Server:
        self._made += 1
        return Server(self._folder / f"pg{self._made}")

    def _point_at(self, server: Server) -> None:
        new = self._folder / "new"
        new.symlink_to(server.sockets)
        new.replace(self._address)
