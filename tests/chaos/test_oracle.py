"""The oracle sees each way in which a workflow can go wrong, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from phoenix.domain.run import Event, Run
from tests.chaos.lane import Job
from tests.chaos.oracle import Course, Zombie, problems
from tests.chaos.outside import Call, Work
from tests.chaos.report import quantile
from tests.chaos.scenes import SCENES
from tests.chaos.sweep import Verdict, compared

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT, RUN = UUID(int=1), UUID(int=2)
GATE = SCENES["gate"]
STEPS = ("g1", "g2", "g3", "g4", "g5")


def note(step: str, at: float, *, pid: int = 1, attempt: int = 1) -> dict[str, Any]:
    return {"line": "", "step": step, "at": at, "pid": pid, "attempt": attempt}


def event(seq: int, kind: str, **data: Any) -> Event:
    return Event(seq=seq, project_id=PROJECT, run_id=RUN, kind=kind, data=data, at=NOW)


def good() -> Course:
    """Return a course of the scene with a gate in which all is well."""
    output = {"said": list(GATE.said)}
    run = Run(
        id=RUN, project_id=PROJECT, flow=GATE.flow, status="success", output=output, created_at=NOW, attempt=2
    )
    calls = {name: [Call(at, 1, 1, at + 0.5)] for name, at in (("g1//0", 1.0), ("g4//0", 4.0))}
    return Course(
        scene=GATE,
        run=run,
        children=[],
        events=[event(1, "run_started"), event(2, "run_finished", status="success")],
        begun=[note(step, at) for at, step in enumerate(STEPS, 1)],
        outside=Work(calls, dict.fromkeys(GATE.effects, 1)),
        asked=1,
    )


def test_nothing_is_wrong_where_all_is_well() -> None:
    """An undisturbed course, and one whose step was cut and done again, pass."""
    assert problems(good()) == []
    begun = [note("g1", 1), note("g2", 2), note("g2", 3, pid=2, attempt=2), *good().begun[2:]]
    assert problems(replace(good(), begun=begun)) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"run": good().run.model_copy(update={"status": "failed"})}, "lost"),
        ({"run": good().run.model_copy(update={"output": {"said": ["g1"]}})}, "lost"),
        ({"asked": 2}, "repeated"),
        ({"children": [good().run]}, "repeated"),
        ({"begun": [*good().begun, note("g2", 9)]}, "repeated"),
        ({"outside": Work(good().outside.calls, {"g2/": 1})}, "effects"),
        ({"outside": Work(good().outside.calls, {**good().outside.effects, "g2/again": 1})}, "effects"),
        ({"events": [event(1, "run_started"), event(3, "run_finished", status="success")]}, "events"),
        ({"events": [event(n, "run_finished", status="success") for n in (1, 2)]}, "events"),
    ],
)
def test_each_fault_is_seen(change: dict[str, Any], kind: str) -> None:
    """One thing is changed for the worse, and one kind of problem is found."""
    assert {p.partition(":")[0] for p in problems(replace(good(), **change))} == {kind}


def bought(*calls: Call) -> Course:
    return replace(good(), outside=Work({"g1//0": list(calls)}, good().outside.effects))


def test_a_call_is_paid_twice_when_its_answer_had_arrived() -> None:
    """One that was cut before its answer came is bought again rightly."""
    cut, first, second = Call(1.0, 1, 1), Call(1.0, 1, 1, 2.0), Call(3.0, 2, 2, 4.0)
    assert problems(bought(cut, second)) == []
    assert problems(bought(first, second))[0].startswith("paid twice: g1//0")
    assert problems(replace(bought(first, second), excused=["g1//0"])) == []


def test_a_zombie_may_end_what_it_was_at_and_no_more() -> None:
    """The superseded attempt may begin one step and make one call; the same process's next attempt is new."""
    zombie = Zombie(pid=7, woken_at=5.0, attempt=1)
    late = [note("g2", 6.0, pid=7)]
    assert problems(replace(good(), begun=[*good().begun, *late], zombies=[zombie])) == []
    further = [*late, note("g3", 7.0, pid=7)]
    found = problems(replace(good(), begun=[*good().begun, *further], zombies=[zombie]))
    assert found == ["repeated: superseded and awake again, a worker went on with g2, g3"]
    first, its_own, another = Call(1.0, 2, 2, 2.0), Call(6.0, 7, 1, 6.5), Call(6.0, 7, 2, 6.5)
    assert problems(replace(bought(first, its_own), zombies=[zombie])) == []
    assert problems(replace(bought(first, another), zombies=[zombie])) != []


def test_a_commit_unlike_the_others_is_seen() -> None:
    """The same work must come to the same commit; a scene without files has none."""
    job = Job("w", "tools")
    verdicts = [Verdict(job, True, (), commit) for commit in ("a", "b", "a", "")]
    assert [verdict.problems for verdict in compared(verdicts)] == [
        (),
        ("lost: the commit is b, not a",),
        (),
        (),
    ]


def test_quantiles_are_values_that_were_measured() -> None:
    """The p99 of a hundred values is the 99th, and of none 0."""
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 99.0
    assert quantile([3.0, 1.0], 0.5) == 1.0
    assert quantile([2.0], 1.0) == 2.0
    assert quantile([], 0.99) == 0.0


def test_works_go_over_the_wire_unchanged() -> None:
    """What the world outside counted arrives as it was."""
    work = good().outside
    assert Work.from_json(work.as_json()) == work
