"""A spec has requirements, and each has criteria under unique names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from phoenix.domain.spec import Criterion, Requirement, SpecDraft
from phoenix.errors import DomainInvalid


def spec(**criteria: list[str]) -> SpecDraft:
    """Return a spec with these criteria's ids by requirement."""
    requirements = [
        Requirement(id=name, text=name, criteria=[Criterion(id=i, text=f"{i} holds") for i in ids])
        for name, ids in criteria.items()
    ]
    return SpecDraft(title="t", summary="s", requirements=requirements)


def test_criteria_keep_their_order() -> None:
    """All criteria are listed in the order of the requirements."""
    assert [c.id for c in spec(R1=["C2"], R2=["C1", "C3"]).criteria()] == ["C2", "C1", "C3"]


def test_a_criterion_is_found_by_its_id() -> None:
    """A known id gives the criterion, an unknown one an error with a path."""
    assert spec(R1=["C1", "C2"]).criterion("C2").text == "C2 holds"
    with pytest.raises(DomainInvalid) as caught:
        spec(R1=["C1"]).criterion("C9")
    assert caught.value.problems == [("criteria", "there is no criterion C9")]


def test_a_criterion_id_is_used_once() -> None:
    """The same id in two requirements is refused by name."""
    with pytest.raises(ValidationError, match="criteria: ids used more than once: C1"):
        spec(R1=["C1"], R2=["C1", "C2"])


def test_a_requirement_id_is_used_once() -> None:
    """Two requirements of one id are refused by name."""
    one = {"id": "R1", "text": "x", "criteria": [{"id": "C1", "text": "x"}]}
    two = {"id": "R1", "text": "y", "criteria": [{"id": "C2", "text": "y"}]}
    with pytest.raises(ValidationError, match="requirements: ids used more than once: R1"):
        SpecDraft.model_validate({"title": "t", "summary": "s", "requirements": [one, two]})


@pytest.mark.parametrize("requirements", [[], [{"id": "R1", "text": "x", "criteria": []}]])
def test_a_spec_without_a_criterion_is_refused(requirements: list[object]) -> None:
    """There is always something that a test can decide."""
    with pytest.raises(ValidationError):
        SpecDraft.model_validate({"title": "t", "summary": "s", "requirements": requirements})


@pytest.mark.parametrize("name", ["c1", "C0", "C01", "R1", "C1 ", ""])
def test_ids_have_one_form(name: str) -> None:
    """A criterion's id is C and a number from 1."""
    with pytest.raises(ValidationError):
        Criterion(id=name, text="x")
