"""What must hold of a workflow once it has ended, whatever happened on its way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from phoenix.domain.run import Event, Run
from tests.chaos.outside import Call, Work
from tests.chaos.scenes import Scene


@dataclass(frozen=True)
class Zombie:
    """A worker that was frozen and woke up: its process, when it woke, and the attempt it was at.

    Awake, its process may take runs again like any other, as attempts of their own.
    """

    pid: int
    woken_at: float
    attempt: int

    def is_late(self, pid: int, at: float, attempt: int) -> bool:
        """Tell whether something was done by the attempt that had been superseded meanwhile."""
        return pid == self.pid and at > self.woken_at and attempt <= self.attempt


@dataclass(frozen=True)
class Course:
    """All that is known of one workflow that is over.

    `begun` are the notes of its steps, `calls` and `effects` what the world outside counted. `excused` are
    model calls whose answer arrived in the instant before a kill, when nothing could have stored it yet.
    `zombies` are those who were frozen in the middle of it and woke up.
    """

    scene: Scene
    run: Run
    children: Sequence[Run]
    events: Sequence[Event]
    begun: Sequence[Mapping[str, Any]]
    outside: Work
    asked: int
    excused: Collection[str] = ()
    zombies: Sequence[Zombie] = ()


def problems(course: Course) -> list[str]:
    """Return what is wrong, each beginning with one of: lost, repeated, paid twice, effects, events."""
    return [
        *_lost(course),
        *_repeated(course),
        *_paid_twice(course),
        *_effects(course),
        *_events(course),
    ]


def _lost(course: Course) -> list[str]:
    run, scene = course.run, course.scene
    if run.status != "success":
        why = f": {run.error.message}" if run.error else ""
        return [f"lost: the run is {run.status}{why}"]
    found = []
    said = tuple((run.output or {}).get("said", ()))
    if said != scene.said:
        what = "repeated" if len("".join(said)) > len("".join(scene.said)) else "lost"
        found.append(f"{what}: the output is {said}, not {scene.said}")
    if course.asked != scene.approvals:
        found.append(f"repeated: {course.asked} approvals were asked, not {scene.approvals}")
    if len(course.children) != scene.children:
        found.append(f"repeated: {len(course.children)} children were opened, not {scene.children}")
    return found


def _repeated(course: Course) -> list[str]:
    """Find steps that began again after their follower had begun: they were in a checkpoint by then."""
    lines: dict[str, list[str]] = {}
    late: list[str] = []
    for note in course.begun:
        if any(z.is_late(note["pid"], note["at"], note["attempt"]) for z in course.zombies):
            late.append(note["step"])
            continue
        steps = lines.setdefault(note["line"], [])
        if not steps or steps[-1] != note["step"]:
            steps.append(note["step"])
    found = [
        f"repeated: {step} began again" + (f" on {line}" if line else "")
        for line, steps in lines.items()
        for step, times in Counter(steps).items()
        if times > 1
    ]
    if len(late) > len(course.zombies):
        # It may have been about to begin one; the next checkpoint is where it must learn.
        found.append(f"repeated: superseded and awake again, a worker went on with {', '.join(late)}")
    return found


def _paid_twice(course: Course) -> list[str]:
    found = []
    for name, made in sorted(course.outside.calls.items()):
        times = len(again(made, course.zombies))
        if times and name not in course.excused:
            found.append(f"paid twice: {name} was asked {times} times more after its answer had arrived")
    return found


def again(made: Sequence[Call], zombies: Sequence[Zombie] = ()) -> list[Call]:
    """Return the calls that were made though the answer had arrived before."""
    arrived = [call.arrived_at for call in made if call.arrived_at is not None]
    repeated = [call for call in made if any(at <= call.asked_at for at in arrived)]
    for zombie in zombies:
        # Nothing can stop the one call that it was about to make when it froze.
        late = [call for call in repeated if zombie.is_late(call.pid, call.asked_at, call.attempt)]
        repeated = [call for call in repeated if call not in late[:1]]
    return repeated


def _effects(course: Course) -> list[str]:
    done, wanted = set(course.outside.effects), course.scene.effects
    extra, missing = sorted(done - wanted), sorted(wanted - done)
    return [f"effects: {key} should not be" for key in extra] + [
        f"effects: {key} is missing" for key in missing
    ]


def _events(course: Course) -> list[str]:
    numbers = [event.seq for event in course.events]
    found = []
    if numbers != list(range(1, len(numbers) + 1)):
        found.append("events: the numbers have gaps")
    ends = Counter(event.run_id for event in course.events if _succeeded(event))
    found += [f"events: run {run} ended {times} times" for run, times in ends.items() if times > 1]
    return found


def _succeeded(event: Event) -> bool:
    return event.kind == "run_finished" and event.data.get("status") == "success"
