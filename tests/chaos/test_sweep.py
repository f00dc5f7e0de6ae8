"""A short sweep: a kill, a lost connection, a stop or a freeze at boundaries spread over every scene."""

from __future__ import annotations

import pytest

from tests.chaos.sweep import Sweep, points, spread

KILLS, FAILURES, STOPS, FREEZES = 60, 50, 10, 6
REACHED = 0.8
"""The least share of points that must be reached, or the sweep looks at something else than it found."""


@pytest.mark.slow
async def test_no_fault_at_any_point_loses_or_repeats_anything(sweep: Sweep) -> None:
    """Wherever a worker dies, loses its connection, is stopped or frozen: same output, effects, payments."""
    found = await sweep.discover()
    jobs = [
        *spread(points(found, ["kill"]), KILLS),
        *spread(points(found, ["fail"]), FAILURES),
        *spread(points(found, ["stop"]), STOPS),
        *spread(points({"gate": found["gate"]}, ["freeze"]), FREEZES),
    ]
    outcome = await sweep.run(jobs)
    assert not outcome.bad, outcome.told()
    assert len(outcome.fired) >= REACHED * len(jobs)
