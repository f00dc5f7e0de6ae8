"""Each guard is taken away once, and the sweep notices at the points that tell."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.chaos.points import Kind, Mode
from tests.chaos.sweep import Sweep, before_checkpoint, points

COUNT = 2


@dataclass(frozen=True)
class Telling:
    """Where a guard matters: between a scene's nth boundary of a kind and the checkpoint after it."""

    guard: str
    scene: str
    kind: Kind
    nth: int
    mode: Mode
    wrong: str


TELLING = [
    Telling("fence", "gate", "effect", 1, "freeze", "repeated"),
    Telling("journal", "steps", "model", 1, "kill", "paid twice"),
    Telling("pinning", "tools", "tool", 2, "kill", "lost"),
    Telling("sync", "steps", "effect", 1, "kill", "repeated"),
]


@pytest.mark.slow
@pytest.mark.parametrize("telling", TELLING, ids=lambda telling: telling.guard)
async def test_the_sweep_notices_that_a_guard_is_gone(sweep: Sweep, telling: Telling) -> None:
    """With the guard nothing is wrong at these points; without it something is."""
    found = await sweep.discover([telling.scene])
    near = before_checkpoint(found[telling.scene], telling.kind, telling.nth, COUNT)
    jobs = points({telling.scene: near}, [telling.mode], ["after"])
    guarded = await sweep.run(jobs)
    assert guarded.fired
    assert not guarded.bad, guarded.told()
    bare = await sweep.run(jobs, removed=[telling.guard])
    assert telling.wrong in bare.counts(), bare.told()
