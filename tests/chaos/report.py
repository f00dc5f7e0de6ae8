"""What a soak came to: lost, repeated, stuck, and how long after each blow the work went on."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Overview
from tests.chaos.oracle import Course, Zombie, again, problems
from tests.chaos.outside import Outside
from tests.chaos.scenes import TEN
from tests.chaos.soak import FROZEN_SECONDS, Blow, Soak

STORING_SECONDS = 0.25
"""An answer that arrived so shortly before its worker's end may not have been stored yet."""

TINY = 1e-9
"""What rounding may add to a product."""

PAUSES = frozenset({"g3", "open_children"})
"""Steps after which a workflow waits for somebody: what follows is not the worker's to hurry."""

BARE = frozenset({"kill", "crash", "failover"})


@dataclass
class Report:
    """Counts and times of one soak. `gaps` are seconds from a blow to the next step, by kind of blow."""

    workflows: int = 0
    steps: int = 0
    model_calls: int = 0
    cut: int = 0
    """Model calls asked again because their answer arrived in the instant before a kill."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    gaps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def counts(self) -> Counter[str]:
        """Return how many workflows have each kind of problem."""
        return Counter(
            kind for found in self.problems.values() for kind in {p.partition(":")[0] for p in found}
        )

    def all_gaps(self) -> list[float]:
        """Return the seconds after kills of workers and of the database, sorted."""
        return sorted(gap for kind, gaps in self.gaps.items() if kind in BARE for gap in gaps)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * share - TINY) - 1)] if ordered else 0.0


async def report(soak: Soak, world: Outside) -> Report:
    """Judge every workflow that was accepted."""
    made = Report(workflows=len(soak.accepted))
    notes = soak.system and _by_work(soak)
    seen = {o.project.title: o for o in await soak.system.engine.projects(limit=10 * soak.size.workflows)}
    for name, scene in soak.accepted.items():
        found = seen.get(name)
        if found is None:
            made.problems[name] = ["lost: it was accepted and is not there"]
            continue
        if found.run.status not in FINISHED:
            made.problems[name] = [f"stuck: {found.run.status}"]
            continue
        wrong = problems(await _course(soak, world, scene, found, notes[name], made))
        if wrong:
            made.problems[name] = wrong
        made.steps += len(notes[name])
        made.model_calls += len(world.works[name].calls)
    for line in _lines(notes.values()):
        _measure(line, soak.blows, made)
    return made


def _by_work(soak: Soak) -> dict[str, list[dict[str, Any]]]:
    from tests.chaos.ledger import Ledger

    notes: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for note in Ledger(soak.ground.folder).read(kind="begin"):
        notes[note["work"]].append(note)
    return notes


async def _course(
    soak: Soak,
    world: Outside,
    scene: str,
    found: Overview,
    begun: Sequence[Mapping[str, Any]],
    made: Report,
) -> Course:
    engine, project = soak.system.engine, found.project.id
    whole = await engine.overview(project)
    events = await engine.log.read(project, limit=10_000)
    excused = _excused(world, found.project.title, soak.blows)
    made.cut += len(excused)
    return Course(
        scene=TEN[scene],
        run=whole.run,
        children=whole.children,
        events=events,
        begun=begun,
        outside=world.works[found.project.title],
        asked=sum(event.kind == "approval_requested" for event in events),
        excused=excused,
        zombies=_zombies(begun, soak.blows),
    )


def _zombies(begun: Sequence[Mapping[str, Any]], blows: Sequence[Blow]) -> list[Zombie]:
    """Return the workers that were frozen after they had begun a step of this workflow."""
    found = []
    for blow in blows:
        mine = [n["attempt"] for n in begun if n["pid"] == blow.pid and n["at"] <= blow.at]
        if blow.kind == "freeze" and mine:
            found.append(Zombie(blow.pid, blow.at + FROZEN_SECONDS, max(mine)))
    return found


def _excused(world: Outside, work: str, blows: Sequence[Blow]) -> list[str]:
    """Return calls whose answer may not have been stored when their worker was killed."""
    found = []
    for name, made in world.works[work].calls.items():
        if not again(made):
            continue
        first = next(call for call in made if call.arrived_at is not None)
        ends = [blow.at for blow in blows if blow.pid == first.pid]
        if any(0 <= end - (first.arrived_at or 0.0) < STORING_SECONDS for end in ends):
            found.append(name)
    return found


def _lines(works: Iterable[Sequence[dict[str, Any]]]) -> Iterable[list[dict[str, Any]]]:
    for notes in works:
        lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for note in notes:
            lines[note["line"]].append(note)
        yield from lines.values()


def _measure(line: Sequence[dict[str, Any]], blows: Sequence[Blow], made: Report) -> None:
    """Add the seconds from each blow that struck this line to its next step."""
    times = [note["at"] for note in line]
    for blow in blows:
        place = bisect_right(times, blow.at)
        if not 0 < place < len(line):
            continue
        last, following = line[place - 1], line[place]
        struck = last["pid"] == blow.pid or not blow.pid
        waits = last["step"] in PAUSES and following["step"] != last["step"]
        if struck and not waits:
            made.gaps[blow.kind].append(following["at"] - blow.at)
