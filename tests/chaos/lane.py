"""A process that runs workflows one after the other, each with a fault at a point of its own.

When the fault kills it, the harness starts another, which first brings the interrupted workflow to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import structlog
from pydantic import SecretStr
from sqlalchemy import text

from phoenix.bootstrap import System, open_system
from phoenix.domain.approval import Decision
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch, Overview
from phoenix.errors import DatabaseUnavailable, DecisionConflict
from phoenix.settings import Settings
from phoenix.storage.database import connect
from tests.chaos import guards, outside
from tests.chaos.ledger import Ledger
from tests.chaos.oracle import Course, Zombie, problems
from tests.chaos.points import Boundaries, Boundary, Broken, Point, aside, watch_database
from tests.chaos.scenes import AGENT, EFFECT, FLOWS, SCENES, Work, perform
from tests.chaos.watched import MODEL, Place, SoldModel, lines_of, settle_in

STUCK_SECONDS = 30.0
EFFECT_SECONDS = 40.0
LOOK_SECONDS = 0.02
ZOMBIE_SECONDS = 1.0
"""How long a worker that woke up may do harm before the workflow goes on."""

Eye = psycopg.AsyncConnection[tuple[Any, ...]]
"""A connection that only looks, and is no boundary."""


@dataclass(frozen=True)
class Job:
    """A workflow to run, and the point where its fault happens; without one it is only looked at."""

    work: str
    scene: str
    point: Point | None = None


@dataclass(frozen=True)
class Plan:
    """All that the processes of one lane need. `removed` are the guards to take away."""

    url: str
    folder: Path
    socket: str
    jobs: Sequence[Job]
    removed: frozenset[str] = frozenset()


def run(plan: Plan, start: int) -> None:
    """Run the jobs from one on; what a process before left unfinished is brought to its end first."""
    logging.disable(logging.CRITICAL)
    log = (plan.folder / "log.txt").open("a")
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
    Ledger(plan.folder).note("started")
    asyncio.run(_run(plan, start))


async def _run(plan: Plan, start: int) -> None:
    async with _lane(plan) as lane:
        await lane.all(start)


def rescue(plan: Plan, number: int) -> None:
    """Take a job over from a frozen process, let that one wake up, and bring the job to its end."""
    logging.disable(logging.CRITICAL)
    structlog.configure(logger_factory=structlog.WriteLoggerFactory((plan.folder / "log.txt").open("a")))
    asyncio.run(_rescue(plan, number))


async def _rescue(plan: Plan, number: int) -> None:
    await _take_for_dead(plan.url)
    async with _lane(plan) as lane:
        await lane.rescue(plan.jobs[number])


async def _take_for_dead(url: str) -> None:
    """Do what time would do to a frozen process: its lease ends, and so do its open transactions.

    Its other connections stay whole, so that it can do harm once it is awake.
    """
    engine = connect(url)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND (state LIKE 'idle in tr%' OR EXISTS"
                " (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))"
            )
        )
    await engine.dispose()


@contextlib.asynccontextmanager
async def _lane(plan: Plan) -> AsyncIterator[Lane]:
    ledger = Ledger(plan.folder)
    place = Place(ledger, Boundaries(ledger), plan.socket)
    settle_in(place)
    guards.remove(plan.removed, place)
    watch_database(place.boundaries)
    # Spans are written at times of their own, by a thread: their statements are no points to kill at.
    settings = Settings(
        home=plan.folder / "home", DATABASE_URL=SecretStr(plan.url), sandbox="auto", traces="off"
    )
    backends = {MODEL: SoldModel(lines_of(AGENT))}
    async with (
        open_system(
            settings, flows=FLOWS, types=[Work], backends=backends, performers={EFFECT: perform}
        ) as system,
        await psycopg.AsyncConnection.connect(plan.url, autocommit=True) as eye,
    ):
        yield Lane(plan, place, system, eye)


class Lane:
    """One process's share of a lane."""

    def __init__(self, plan: Plan, place: Place, system: System, eye: Eye) -> None:
        self._plan = plan
        self._place = place
        self._ledger, self._boundaries = place.ledger, place.boundaries
        self._system, self._eye = system, eye
        self._stopped = asyncio.Event()
        self._boundaries.on_stop = self._stopped.set

    async def all(self, start: int) -> None:
        self._ledger.note("opened")
        """Run the jobs from one on."""
        jobs = self._plan.jobs
        if start > 0 and not self._ledger.read(kind="judged", work=jobs[start - 1].work):
            async with self._system.engine.worker():
                await self._settle(jobs[start - 1])
        for number in range(start, len(jobs)):
            self._ledger.note("job", number=number)
            await self._one(jobs[number])
        self._ledger.note("done")

    async def _one(self, job: Job) -> None:
        self._stopped.clear()
        async with self._system.engine.worker():
            await asyncio.sleep(LOOK_SECONDS * 2)
            self._boundaries.arm(job.point)
            await self._launch(job)
            ended = asyncio.create_task(self._until_over(job))
            told = asyncio.create_task(self._stopped.wait())
            await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
            for task in (ended, told):
                task.cancel()
            await asyncio.gather(ended, told, return_exceptions=True)
            if not self._stopped.is_set():
                self._note_boundaries(job)
                await self._settle(job)
        if self._stopped.is_set():
            async with self._system.engine.worker():
                await self._settle(job)

    def _note_boundaries(self, job: Job) -> None:
        self._boundaries.disarm()
        for found in self._boundaries.trace if job.point is None else ():
            self._ledger.note("boundary", work=job.work, what=dataclasses.astuple(found))

    async def _launch(self, job: Job) -> None:
        scene = SCENES[job.scene]
        body = Work(id=job.work).model_dump(mode="json")
        order = Launch(
            requirement=job.work, title=job.work, model=MODEL, flow=scene.flow, input=body, budget_usd=100
        )
        while True:
            try:
                await self._system.engine.launch(order)
                break
            except DatabaseUnavailable:
                # Whether it was committed is not known: look before it is launched again.
                if await self._find(job) is not None:
                    break
        self._ledger.note("accepted", work=job.work)

    async def _find(self, job: Job) -> UUID | None:
        with aside():
            cursor = await self._eye.execute("SELECT id FROM projects WHERE title = %s", [job.work])
            row = await cursor.fetchone()
        return row[0] if row else None

    async def _until_over(self, job: Job, *, decide: bool = True) -> Overview | None:
        """Answer what is asked until the workflow is over; None when it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STUCK_SECONDS):
                while True:
                    if self._boundaries.froze:
                        # Another process takes the job over: this one is only there to do harm.
                        await asyncio.Event().wait()
                    seen = await self._stop_of(job)
                    if seen is not None and (seen.run.status in FINISHED or not decide):
                        return seen
                    for approval in seen.approvals if seen else ():
                        with contextlib.suppress(DecisionConflict, DatabaseUnavailable):
                            await self._system.engine.decide(
                                approval.id, Decision(verdict="approve"), by="chaos"
                            )
                    await asyncio.sleep(LOOK_SECONDS)
        return None

    async def _stop_of(self, job: Job) -> Overview | None:
        """Return a workflow that is over, or asks somebody."""
        query = (
            "SELECT p.id FROM projects p JOIN runs r ON r.project_id = p.id AND r.parent_id IS NULL"
            " WHERE title = %s AND (finished_at IS NOT NULL"
            " OR EXISTS (SELECT FROM approvals a WHERE a.project_id = p.id AND decision IS NULL))"
        )
        with aside():
            row = await (await self._eye.execute(query, [job.work])).fetchone()
            return await self._system.engine.overview(row[0]) if row else None

    async def _settle(self, job: Job) -> None:
        """Bring a job's workflow to its end and judge it."""
        found = await self._find(job)
        if found is None:
            accepted = self._ledger.read(kind="accepted", work=job.work)
            self._judge(job, ["lost: it was accepted and is not there"] if accepted else [])
            return
        seen = await self._until_over(job)
        if seen is not None and seen.run.status == "failed" and _is_ours(seen):
            await self._system.engine.resume(seen.project.id)
            latest = sorted(self._boundaries.latest.values())
            self._ledger.note("resumed", work=job.work, latest=latest)
            await self._restarted(seen.project.id)
            seen = await self._until_over(job)
        if seen is None:
            state = await self._state(found)
            await self._system.engine.cancel(found)
            self._judge(job, [f"stuck: after {STUCK_SECONDS:g} s {state}"])
            return
        await self._effects_done(job)
        found_wrong = problems(await self._course(job, seen))
        self._judge(job, found_wrong, commit=str((seen.run.output or {}).get("commit", "")))

    async def _state(self, project_id: UUID) -> str:
        """Say where the runs of a project stand, and what jobs they have."""
        query = (
            "SELECT concat_ws(' ', key, r.status, 'attempt', attempt, 'wake', wake, 'worker', worker, 'jobs',"
            " (SELECT string_agg(j.status::text, ',') FROM procrastinate_jobs j"
            " WHERE lock = thread_id::text))"
            " FROM runs r WHERE project_id = %s ORDER BY ordinal"
        )
        with aside():
            rows = await (await self._eye.execute(query, [project_id])).fetchall()
        return "; ".join(row[0] for row in rows)

    async def _restarted(self, project_id: UUID) -> None:
        while (await self._system.engine.overview(project_id)).run.status == "failed":
            await asyncio.sleep(LOOK_SECONDS)

    async def _effects_done(self, job: Job) -> None:
        """Wait a while for effects that no step waits for."""
        wanted = SCENES[job.scene].effects
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EFFECT_SECONDS):
                while wanted - set((await outside.ask(self._plan.socket, "report", job.work))["effects"]):
                    await asyncio.sleep(LOOK_SECONDS)

    def _judge(self, job: Job, found: list[str], *, commit: str = "") -> None:
        fired = bool(self._ledger.read(kind="fired", point=str(job.point)))
        self._ledger.note(
            "judged", work=job.work, point=str(job.point), fired=fired, problems=found, commit=commit
        )

    async def _course(self, job: Job, seen: Overview) -> Course:
        project = seen.project.id
        events = await self._system.engine.log.read(project, limit=10_000)
        fired = self._ledger.read(kind="fired", point=str(job.point))
        begun = self._ledger.read(kind="begin", work=job.work)
        return Course(
            scene=SCENES[job.scene],
            run=seen.run,
            children=seen.children,
            events=events,
            begun=begun,
            outside=outside.Work.from_json(await outside.ask(self._plan.socket, "report", job.work)),
            asked=sum(event.kind == "approval_requested" for event in events),
            excused=self._excused(job, fired),
            zombies=self._zombies(fired, begun),
        )

    def _excused(self, job: Job, fired: Sequence[dict[str, Any]]) -> list[str]:
        """Return the model calls that may be made again: those that could not be stored yet.

        Where a step failed and its user had it tried again, so may what that step had asked.
        """
        if job.point is None or not fired:
            return []
        alive = job.point.mode == "fail" and job.point.boundary.kind == "db"
        names = set() if alive else {name for note in fired for name in note["unstored"]}
        resumed = self._ledger.read(kind="resumed", work=job.work)
        return sorted(names | {name for note in resumed for name in note["latest"]})

    def _zombies(self, fired: Sequence[dict[str, Any]], begun: Sequence[dict[str, Any]]) -> list[Zombie]:
        frozen = next((note for note in fired if note["mode"] == "freeze"), None)
        if frozen is None:
            return []
        pid = frozen["pid"]
        woken_at = max((note["at"] for note in self._ledger.read(kind="thawed", pid=pid)), default=0.0)
        attempts = [n["attempt"] for n in begun if n["pid"] == pid and n["at"] <= frozen["at"]]
        return [Zombie(pid, woken_at, max(attempts, default=1))]

    async def rescue(self, job: Job) -> None:
        """Take a job over, have the frozen process woken up, and bring the job to its end."""
        async with self._system.engine.worker():
            await self._until_over(job, decide=False)
            self._ledger.note("thaw", work=job.work)
            await asyncio.sleep(ZOMBIE_SECONDS)
            await self._settle(job)


def _is_ours(seen: Overview) -> bool:
    """Tell whether a run failed by the harness's own exception, so that its user would try it again."""
    errors = [run.error.message for run in [seen.run, *seen.children] if run.error is not None]
    return any(Broken.__name__ in message for message in errors)


def boundary_of(note: dict[str, Any]) -> Boundary:
    """Return the boundary that a note tells of."""
    return Boundary(*note["what"])
