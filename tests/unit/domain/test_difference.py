"""What an edited spec changes."""

from __future__ import annotations

from phoenix.domain.difference import compare
from phoenix.domain.spec import Criterion, Requirement, SpecDraft


def spec(*criteria: Criterion, summary: str = "s") -> SpecDraft:
    """Return a spec with one requirement."""
    requirement = Requirement(id="R1", text="r", criteria=list(criteria))
    return SpecDraft(title="t", summary=summary, requirements=[requirement])


ONE, TWO, THREE = (Criterion(id=f"C{n}", text=f"text {n}") for n in (1, 2, 10))


def test_the_same_spec_has_no_differences() -> None:
    """Also when its criteria are in another order."""
    changes = compare(spec(ONE, TWO), spec(TWO, ONE))
    assert (changes.touched, changes.rest, changes.text()) == ([], False, "")


def test_criteria_are_told_apart_by_their_ids() -> None:
    """A changed text, a new and a missing criterion, and what else differs."""
    other = TWO.model_copy(update={"text": "another"})
    changes = compare(spec(ONE, TWO), spec(other, THREE, summary="other"))
    assert changes.changed == ((TWO, other),)
    assert (changes.added, changes.removed, changes.rest) == ((THREE,), (ONE,), True)
    assert changes.touched == ["C1", "C2", "C10"]
    assert "C2 said: text 2\n  and says now: another" in changes.text()
    assert "C10 is new: text 10" in changes.text()
    assert "C1 is gone" in changes.text()


def test_a_criterion_that_holds_already_now_is_changed() -> None:
    """Its tests would have to be green beforehand."""
    holds = ONE.model_copy(update={"already_holds": True})
    changes = compare(spec(ONE), spec(holds))
    assert changes.touched == ["C1"]
    assert "(holds already)" in changes.text()
