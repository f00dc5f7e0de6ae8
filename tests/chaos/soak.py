"""Many workflows on many workers, while workers, the database and its primary are killed at random.

Everything is seen from outside: what steps noted, what the world outside was asked, and the rows at the end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import structlog
from pydantic import SecretStr

from phoenix.bootstrap import System, open_system
from phoenix.domain.approval import Decision
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch
from phoenix.errors import DatabaseUnavailable, DecisionConflict
from phoenix.settings import Settings
from phoenix.storage.migrate import upgrade
from tests.chaos.children import Child
from tests.chaos.ledger import Ledger
from tests.chaos.outside import Outside, outside
from tests.chaos.points import Boundaries
from tests.chaos.scenes import AGENT, EFFECT, TEN, TEN_FLOWS, Work, perform
from tests.chaos.servers import Cluster
from tests.chaos.watched import MODEL, Place, SoldModel, lines_of, settle_in

MIX = ("steps", "steps", "steps", "gate", "steps", "fan", "steps", "branches", "steps", "tools")
"""What every ten workflows are."""

LOST = (DatabaseUnavailable, psycopg.OperationalError, OSError)
AWAY_SECONDS = 1.0
"""How long a killed worker stays away before it is started again, as a supervisor would."""
FROZEN_SECONDS = 20.0
MODEL_SECONDS = 0.1
LOOK_SECONDS = 0.1
AHEAD = 120
"""Workflows launched and not yet over, at most."""
STUCK_SECONDS = 180.0
"""Without any workflow ending for so long, the soak ends and counts what is left as stuck."""


ASIDE = (
    "r.status = 'failed' AND EXISTS (SELECT FROM runs c WHERE c.project_id = r.project_id"
    " AND c.status = 'failed' AND c.error->>'code' = 'run_quarantined')"
)
OVER = f"SELECT count(*) FROM runs r WHERE parent_id IS NULL AND finished_at IS NOT NULL AND NOT ({ASIDE})"
"""Counts workflows that are over for good."""
QUARANTINED = f"SELECT project_id FROM runs r WHERE parent_id IS NULL AND {ASIDE}"


@dataclass(frozen=True)
class Size:
    """How long a soak lasts and how much happens in it."""

    workflows: int = 2_000
    workers: int = 4
    kills: int = 200
    crashes: int = 20
    failovers: int = 3
    freezes: int = 4
    seed: int = 1


@dataclass(frozen=True)
class Blow:
    """Something that was done to the system. `pid` is the worker's, 0 for the database's."""

    kind: str
    at: float
    pid: int = 0


@dataclass(frozen=True)
class Ground:
    """What worker processes need."""

    url: str
    folder: Path
    socket: str


def settings_of(ground: Ground) -> Settings:
    """Return Phoenix's default settings, for this database and folder."""
    return Settings(home=ground.folder / "home", DATABASE_URL=SecretStr(ground.url))  # type: ignore[call-arg]


@asynccontextmanager
async def opened(ground: Ground, *, execution: bool = True) -> AsyncIterator[System]:
    """Open Phoenix on the soak's database, once that can be reached."""
    ledger = Ledger(ground.folder)
    settle_in(Place(ledger, Boundaries(ledger), ground.socket))
    backends = {MODEL: SoldModel(lines_of(AGENT))}
    while True:
        opening = open_system(
            settings_of(ground),
            flows=TEN_FLOWS,
            types=[Work],
            backends=backends,
            performers={EFFECT: perform},
            execution=execution,
        )
        try:
            system = await opening.__aenter__()
            break
        except LOST:
            await asyncio.sleep(LOOK_SECONDS)
    try:
        yield system
    finally:
        await opening.__aexit__(None, None, None)


def work(ground: Ground) -> None:
    """Be a worker until killed."""
    logging.disable(logging.CRITICAL)
    log = (ground.folder / "log.txt").open("a")
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))

    async def forever() -> None:
        async with opened(ground) as system:
            await system.engine.work()

    asyncio.run(forever())


class Workers:
    """Worker processes, each started again some time after it was killed or ended by itself."""

    def __init__(self, ground: Ground, count: int) -> None:
        self._ground = ground
        self._alive = [Child(work, ground) for _ in range(count)]
        self._returning: set[asyncio.Task[None]] = set()

    def kill(self, chance: random.Random) -> int:
        """Kill one without warning, and return its pid; another takes its place later."""
        victim = chance.choice(self._alive)
        victim.send(signal.SIGKILL)
        self._leave(victim)
        return victim.pid

    def look(self) -> None:
        """Replace those that ended by themselves."""
        for child in [child for child in self._alive if not child.is_alive()]:
            self._leave(child)

    def _leave(self, child: Child) -> None:
        self._alive.remove(child)
        task = asyncio.create_task(self._return(child))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _return(self, child: Child) -> None:
        await asyncio.to_thread(child.join)
        await asyncio.sleep(AWAY_SECONDS)
        self._alive.append(Child(work, self._ground))

    def freeze(self, chance: random.Random) -> int:
        """Stop one, and let it go on when it has long been taken for dead."""
        child = chance.choice(self._alive)
        child.send(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(FROZEN_SECONDS, child.send, signal.SIGCONT)
        return child.pid

    @property
    def count(self) -> int:
        """Return how many are there now."""
        return len(self._alive)

    def stop(self) -> None:
        """Kill all."""
        for task in self._returning:
            task.cancel()
        for child in self._alive:
            child.kill()


@dataclass
class Soak:
    """One soak. `blows` and `accepted` fill up as it goes."""

    ground: Ground
    size: Size
    cluster: Cluster
    system: System
    workers: Workers
    blows: list[Blow] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    """The scene of each workflow that was accepted, by its name."""
    over: int = 0
    stuck: bool = False
    released: int = 0
    """Runs that were in hand at three deaths of a worker, set aside, and released as their operator would."""

    async def run(self) -> None:
        """Launch everything, strike, answer what is asked, until all is over or nothing moves."""
        tasks = [asyncio.create_task(part()) for part in (self._launch, self._strike, self._answer)]
        try:
            await self._watch()
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception):
                raise error

    async def _watch(self) -> None:
        moved = time.monotonic()
        while self.over < self.size.workflows or len(self.accepted) < self.size.workflows:
            await asyncio.sleep(LOOK_SECONDS)
            self.workers.look()
            count = await self._value(OVER)
            if count > self.over:
                self.over, moved = count, time.monotonic()
            elif time.monotonic() - moved > STUCK_SECONDS:
                self.stuck = True
                return

    async def _launch(self) -> None:
        for number in range(self.size.workflows):
            while len(self.accepted) - self.over > AHEAD:
                await asyncio.sleep(LOOK_SECONDS)
            scene = MIX[number % len(MIX)]
            name = f"w{number}-{scene}"
            body = Work(id=name).model_dump(mode="json")
            order = Launch(
                requirement=name, title=name, model=MODEL, flow=TEN[scene].flow, input=body, budget_usd=100
            )
            await self._surely(lambda order=order: self._launch_once(order))
            self.accepted[name] = scene

    async def _launch_once(self, order: Launch) -> None:
        """Launch, unless an attempt whose answer was lost did so."""
        if not await self._value("SELECT count(*) FROM projects WHERE title = %s", order.title):
            await self.system.engine.launch(order)

    async def _surely(self, action: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await action()
            except LOST:
                await asyncio.sleep(LOOK_SECONDS)

    async def _answer(self) -> None:
        while True:
            for approval in await self._column("SELECT id FROM approvals WHERE decision IS NULL"):
                with suppress(DecisionConflict, *LOST):
                    await self.system.engine.decide(approval, Decision(verdict="approve"), by="soak")
            for project in await self._column(QUARANTINED):
                with suppress(*LOST):
                    await self.system.engine.resume(project)
                    self.released += 1
            await asyncio.sleep(LOOK_SECONDS)

    async def _strike(self) -> None:
        """Strike in a random order, spread evenly over the workflows."""
        size, chance = self.size, random.Random(self.size.seed)
        due = ["kill"] * size.kills + ["crash"] * size.crashes
        due += ["failover"] * size.failovers + ["freeze"] * size.freezes
        chance.shuffle(due)
        for number, kind in enumerate(due, 1):
            share = number * size.workflows / (len(due) + 1)
            while self.over < share or self.workers.count < 2:
                await asyncio.sleep(LOOK_SECONDS / 2)
            await self._blow(kind, chance)

    async def _blow(self, kind: str, chance: random.Random) -> None:
        at = time.time()
        match kind:
            case "kill":
                self.blows.append(Blow(kind, at, self.workers.kill(chance)))
            case "freeze":
                self.blows.append(Blow(kind, at, self.workers.freeze(chance)))
            case "crash":
                self.blows.append(Blow(kind, at))
                await self.cluster.crash()
            case _:
                self.blows.append(Blow(kind, at))
                await self.cluster.fail_over()
                await self.cluster.add_standby()

    async def _value(self, query: str, *values: object) -> Any:
        return (await self._column(query, *values))[0]

    async def _column(self, query: str, *values: object) -> list[Any]:
        async def once() -> list[Any]:
            async with await psycopg.AsyncConnection.connect(self.cluster.url, autocommit=True) as connection:
                cursor = await connection.execute(query.encode(), values)
                return [row[0] for row in await cursor.fetchall()]

        return list(await self._surely(once))


@asynccontextmanager
async def soaking(folder: Path, size: Size) -> AsyncIterator[tuple[Soak, Outside]]:
    """Open all that a soak needs."""
    folder.mkdir(parents=True, exist_ok=True)
    socket = str(folder / "outside.sock")
    cluster = Cluster(folder)
    try:
        await cluster.start()
        await upgrade(cluster.url)
        ground = Ground(cluster.url, folder, socket)
        async with (
            outside(Path(socket), seconds=MODEL_SECONDS) as world,
            opened(ground, execution=False) as system,
        ):
            workers = Workers(ground, size.workers)
            try:
                yield Soak(ground, size, cluster, system, workers), world
            finally:
                workers.stop()
    finally:
        cluster.stop()


__all__ = ["FINISHED", "Blow", "Ground", "Size", "Soak", "opened", "soaking"]
