"""Walks through points on several lanes at once, each with a database and processes of its own."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.chaos import lane
from tests.chaos.children import Child
from tests.chaos.lane import Job, Plan, boundary_of
from tests.chaos.ledger import Ledger
from tests.chaos.outside import outside
from tests.chaos.points import Boundary, Kind, Mode, Phase, Point
from tests.chaos.scenes import SCENES

ROOT = Path(__file__).parents[2]
QUIET_SECONDS = 120.0
"""A lane that notes nothing for so long hangs: it is killed and its job counts as stuck."""
LOOK_SECONDS = 0.02
LAUNCH = re.compile(r"^WITH launched")
CHECKPOINT = re.compile("checkpoint|WITH claim")
"""What statements that write checkpoints look like."""

EVENTS = re.compile("WITH given")
"""What statements that write the events of several runs look like: a step's end waits for them."""

LOOKS = 2
"""Undisturbed runs that must agree on a boundary before it is taken for a point."""

RESTARTS = 3
"""How often a lane's processes may end without having begun a job."""


@dataclass(frozen=True)
class Verdict:
    """How one point ended."""

    job: Job
    fired: bool
    problems: tuple[str, ...]
    commit: str = ""
    """What the workflow's files came to."""

    @property
    def kinds(self) -> set[str]:
        """Return what went wrong, in one word each."""
        return {problem.partition(":")[0] for problem in self.problems}


@dataclass
class Outcome:
    """What a sweep found."""

    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def fired(self) -> list[Verdict]:
        """Return the points that were reached."""
        return [verdict for verdict in self.verdicts if verdict.fired]

    @property
    def bad(self) -> list[Verdict]:
        """Return the points that something went wrong at."""
        return [verdict for verdict in self.verdicts if verdict.problems]

    def counts(self) -> Counter[str]:
        """Return how many points ended in each kind of problem."""
        return Counter(kind for verdict in self.bad for kind in verdict.kinds)

    def told(self, most: int = 20) -> str:
        """Return the problems, a point a line."""
        lines = [f"{v.job.scene}: {v.job.point}: {'; '.join(v.problems)}" for v in self.bad[:most]]
        return "\n".join([*lines, f"... {len(self.bad) - most} more"] if len(self.bad) > most else lines)


Make = Callable[[], Any]


@dataclass
class Sweep:
    """Runs jobs on lanes.

    Args:
        make_database: Returns the URL of a fresh migrated database.
        folder: Where lanes keep what is theirs.
        lanes: How many work side by side.
    """

    make_database: Make
    folder: Path
    lanes: int = 3
    _made: int = 0

    async def discover(self, scenes: Sequence[str] = tuple(SCENES)) -> dict[str, list[Boundary]]:
        """Return the boundaries that each scene crosses in every undisturbed run, in order."""
        jobs = [Job(f"look-{scene}-{n}", scene) for scene in scenes for n in range(LOOKS)]
        outcome, ledgers = await self._run(jobs, frozenset())
        if outcome.bad:
            raise AssertionError(f"undisturbed runs go wrong already:\n{outcome.told()}")
        notes = [note for ledger in ledgers for note in ledger.read(kind="boundary")]
        found = {}
        for scene in scenes:
            looks = [
                [boundary_of(note) for note in notes if note["work"] == f"look-{scene}-{n}"]
                for n in range(LOOKS)
            ]
            common = set.intersection(*map(set, looks))
            found[scene] = [boundary for boundary in looks[0] if boundary in common]
        return found

    async def run(self, jobs: Sequence[Job], removed: Iterable[str] = ()) -> Outcome:
        """Run jobs, with guards removed."""
        outcome, _ = await self._run(jobs, frozenset(removed))
        return outcome

    async def _run(self, jobs: Sequence[Job], removed: frozenset[str]) -> tuple[Outcome, list[Ledger]]:
        socket = self.folder / "outside.sock"
        async with _lanes_environment(), outside(socket):
            shares = [jobs[n :: self.lanes] for n in range(self.lanes) if jobs[n :: self.lanes]]
            plans = [await self._plan(share, str(socket), removed) for share in shares]
            await asyncio.gather(*(_walk(plan) for plan in plans))
        socket.unlink(missing_ok=True)
        ledgers = [Ledger(plan.folder) for plan in plans]
        outcome = Outcome()
        for plan, ledger in zip(plans, ledgers, strict=True):
            judged = {note["work"]: note for note in ledger.read(kind="judged")}
            outcome.verdicts += [_verdict(job, judged.get(job.work)) for job in plan.jobs]
        outcome.verdicts = compared(outcome.verdicts)
        return outcome, ledgers

    async def _plan(self, jobs: Sequence[Job], socket: str, removed: frozenset[str]) -> Plan:
        self._made += 1
        folder = self.folder / f"lane-{self._made}"
        folder.mkdir(parents=True)
        return Plan(await self.make_database(), folder, socket, tuple(jobs), removed)


@asynccontextmanager
async def _lanes_environment() -> AsyncIterator[None]:
    """Let lanes import this checkout, whatever the folder we were started in."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _verdict(job: Job, note: dict[str, Any] | None) -> Verdict:
    if note is None:
        return Verdict(job, True, ("stuck: its processes never came to an end",))
    return Verdict(job, bool(note["fired"]), tuple(note["problems"]), note["commit"])


def compared(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Return the verdicts, those with a problem more whose commit is not that of most others."""
    commits = Counter(verdict.commit for verdict in verdicts if verdict.commit)
    usual = commits.most_common(1)[0][0] if commits else ""
    return [
        replace(verdict, problems=(*verdict.problems, f"lost: the commit is {verdict.commit}, not {usual}"))
        if verdict.commit not in ("", usual)
        else verdict
        for verdict in verdicts
    ]


async def _walk(plan: Plan) -> None:
    """Start process after process until all jobs of a lane are through."""
    ledger = Ledger(plan.folder)
    start, idle = 0, 0
    while not ledger.read(kind="done"):
        await _ended(Child(lane.run, plan, start), plan, ledger)
        begun = max((note["number"] for note in ledger.read(kind="job")), default=start - 1) + 1
        idle = 0 if begun > start else idle + 1
        if idle > RESTARTS:
            raise AssertionError(f"the processes of a lane end at once; see {plan.folder}")
        start = begun


async def _ended(process: Child, plan: Plan, ledger: Ledger) -> None:
    """Wait for a process to end; rescue what it holds when it froze, kill it when it hangs."""
    loop = asyncio.get_running_loop()
    seen, since = 0, loop.time()
    while process.is_alive():
        await asyncio.sleep(LOOK_SECONDS)
        size = ledger.path.stat().st_size if ledger.path.exists() else 0
        if size != seen:
            seen, since = size, loop.time()
        if process.is_frozen():
            await _rescued(process, plan, ledger)
        if loop.time() - since > QUIET_SECONDS:
            process.kill()
    process.join()


async def _rescued(process: Child, plan: Plan, ledger: Ledger) -> None:
    number = max(note["number"] for note in ledger.read(kind="job"))
    rescuer = Child(lane.rescue, plan, number)
    while rescuer.is_alive():
        await asyncio.sleep(LOOK_SECONDS)
        if process.is_frozen() and ledger.read(kind="thaw", work=plan.jobs[number].work):
            process.send(signal.SIGCONT)
    rescuer.join()
    process.kill()


def points(
    found: dict[str, list[Boundary]],
    modes: Sequence[Mode] = ("kill", "fail", "stop"),
    phases: Sequence[Phase] = ("before", "after"),
) -> list[Job]:
    """Return a job for every side of every boundary, in every mode.

    Nobody is frozen at the launch: before it there is nothing that others could take over, and the sweep
    would launch it a second time.
    """
    return [
        Job(f"{scene}-{mode}-{phase}-{number}", scene, Point(boundary, phase, mode))
        for mode in modes
        for scene, boundaries in found.items()
        for number, boundary in enumerate(boundaries)
        if mode != "freeze" or not LAUNCH.search(boundary.label)
        for phase in phases
    ]


def spread(jobs: Sequence[Job], count: int) -> list[Job]:
    """Return so many jobs, evenly spread; at most a third at models, tools, workspaces and effects."""
    rare = [job for job in jobs if job.point and job.point.boundary.kind != "db"]
    often = [job for job in jobs if job.point and job.point.boundary.kind == "db"]
    rare = thinned(rare, count // 3)
    return [*rare, *thinned(often, count - len(rare))]


def thinned(jobs: Sequence[Job], count: int) -> list[Job]:
    """Return at most so many jobs, at equal distances."""
    if len(jobs) <= count:
        return list(jobs)
    return [jobs[int(n * len(jobs) / count)] for n in range(count)]


def before_checkpoint(found: Sequence[Boundary], kind: Kind, nth: int, count: int) -> list[Boundary]:
    """Return the last boundaries that a run crosses between its nth of a kind and the next checkpoint.

    Its own where there are any: others, such as statements that write events, may come when the checkpoint
    is on its way already.
    """
    places = [place for place, boundary in enumerate(found) if boundary.kind == kind]
    later = itertools.takewhile(lambda b: not CHECKPOINT.search(b.label), found[places[nth - 1] + 1 :])
    near = list(later)
    own = [boundary for boundary in near if boundary.is_own]
    return (own or [boundary for boundary in near if EVENTS.search(boundary.label)])[-count:]
