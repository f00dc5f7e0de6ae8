"""The specification: requirements, each with criteria that a test can decide."""

from __future__ import annotations

from pydantic import Field, model_validator

from phoenix.domain.frozen import Digest, Frozen, Text
from phoenix.errors import DomainInvalid


class Criterion(Frozen):
    """One testable statement. `already_holds` when it is true before any work (a regression guard)."""

    id: str = Field(pattern=r"^C[1-9][0-9]*$")
    text: Text
    already_holds: bool = False


class Requirement(Frozen):
    """Something the software must do, with the criteria that decide it."""

    id: str = Field(pattern=r"^R[1-9][0-9]*$")
    text: Text
    criteria: list[Criterion] = Field(min_length=1)


class SpecDraft(Frozen):
    """A specification as the requirement agent writes it."""

    title: Text = Field(max_length=120)
    summary: Text
    requirements: list[Requirement] = Field(min_length=1)
    non_goals: list[str] = []
    assumptions: list[str] = []

    @model_validator(mode="after")
    def _ids_are_unique(self) -> SpecDraft:
        for path, ids in (
            ("requirements", [r.id for r in self.requirements]),
            ("criteria", [c.id for c in self.criteria()]),
        ):
            twice = sorted({i for i in ids if ids.count(i) > 1})
            if twice:
                raise ValueError(f"{path}: ids used more than once: {', '.join(twice)}")
        return self

    def criteria(self) -> list[Criterion]:
        """Return all criteria, in order."""
        return [c for r in self.requirements for c in r.criteria]

    def criterion(self, criterion_id: str) -> Criterion:
        """Return one criterion.

        Raises:
            DomainInvalid: there is none of that id.
        """
        for c in self.criteria():
            if c.id == criterion_id:
                return c
        raise DomainInvalid([("criteria", f"there is no criterion {criterion_id}")])


class Spec(SpecDraft):
    """A specification that belongs to a request."""

    request: Digest
