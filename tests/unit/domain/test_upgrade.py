"""When a new version counts as worse."""

from __future__ import annotations

import pytest

from phoenix.domain.upgrade import Finding, Outcomes, compare, fisher, shared


def did(runs: int, failed: int = 0, deaths: int = 0) -> Outcomes:
    return Outcomes(succeeded=runs - failed, failed=failed, deaths=deaths)


@pytest.mark.parametrize(
    ("new", "old", "finding"),
    [
        (did(30, failed=1), did(300, failed=15), "healthy"),
        (did(30, failed=5), did(300, failed=15), "healthy"),
        (did(30, failed=6), did(300, failed=15), "worse"),
        (did(29, failed=0), did(300, failed=15), "unclear"),
        (did(30), did(29), "unclear"),
        (did(0), did(300), "unclear"),
        # Worse takes no least number of runs: failures may be all there is.
        (did(4, failed=4), did(300, failed=15), "worse"),
        # Two failures say nothing, however unlikely.
        (did(2, failed=2), did(3000), "unclear"),
        (did(0, deaths=3), did(300), "worse"),
        (did(0, deaths=2), did(3000), "unclear"),
        (did(100, deaths=4), did(100, deaths=4), "healthy"),
        # Nothing to compare with is no proof of anything.
        (did(40, failed=40, deaths=9), did(0), "unclear"),
        # The old one is the worse of the two.
        (did(100, failed=1), did(100, failed=50, deaths=9), "healthy"),
    ],
)
def test_what_is_found(new: Outcomes, old: Outcomes, finding: Finding) -> None:
    """By both tests at 1 %, with enough on both sides to call it healthy."""
    found = compare("2", new, ["1"], old, least=30)
    assert found.finding == finding, found.reason


def test_the_chances_are_exact() -> None:
    """Beside hand-made cases: 3 of 3 among 3 of 10 draws, and all of three deaths on a tenth of the work."""
    assert fisher(3, 3, 0, 7) == pytest.approx(1 / 120)
    assert fisher(0, 10, 3, 10) == pytest.approx(1.0)
    assert fisher(1, 1, 1, 3) == pytest.approx(0.5)
    assert shared(3, 10, 0, 90) == pytest.approx(0.001)
    assert shared(1, 50, 1, 50) == pytest.approx(0.75)
    assert shared(0, 50, 4, 50) == shared(4, 50, 0, 0) == 1.0


def test_many_runs_are_no_trouble() -> None:
    """A million runs are compared in no time, and without overflow."""
    assert (
        compare("2", did(10_000, failed=500), ["1"], did(10**6, failed=50_000), least=30).finding == "healthy"
    )
    assert (
        compare("2", did(10_000, failed=700), ["1"], did(10**6, failed=50_000), least=30).finding == "worse"
    )


def test_the_reason_names_the_numbers() -> None:
    """Whoever is told to roll back sees why."""
    found = compare("2", did(4, failed=4, deaths=5), ["1"], did(300, failed=15), least=30)
    assert "4 of 4 runs failed, of the old 15 of 300" in found.reason
    assert "5 workers died over 4 runs, of the old 0 over 300" in found.reason
