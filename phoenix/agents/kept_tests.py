"""Sealed tests that outlive a change of the spec: those of criteria that say what they said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from phoenix.agents.test_source import name_of, without_tests
from phoenix.domain.evidence import Sealed, SealedTest
from phoenix.domain.spec import Criterion, Spec


@dataclass(frozen=True)
class Former:
    """Tests sealed before, with the criteria as they were then, by id."""

    sealed: Sealed
    criteria: Mapping[str, Criterion]


@dataclass(frozen=True)
class Kept:
    """What stays of them."""

    files: Mapping[str, str]
    tests: tuple[SealedTest, ...] = ()

    @property
    def criteria(self) -> set[str]:
        """Ids of the criteria that they decide."""
        return {t.criterion for t in self.tests}

    @property
    def holding(self) -> list[str]:
        """Ids of those that held before any code: none of their tests was red."""
        return sorted(self.criteria - {t.criterion for t in self.tests if t.red})


NOTHING = Kept({})


def keep(former: Former | None, spec: Spec, folder: str) -> Kept:
    """Return the tests of criteria whose text is unchanged, in files without the others."""
    if former is None or former.sealed.folder != folder:
        return NOTHING
    same = {c.id for c in spec.criteria() if former.criteria.get(c.id) == c}
    tests = tuple(t for t in former.sealed.tests if t.criterion in same)
    files = {}
    for file in former.sealed.files:
        inside = [t for t in former.sealed.tests if t.id.partition("::")[0] == file.path]
        gone = [name_of(t.id) for t in inside if t.criterion not in same]
        files[file.path] = without_tests(file.content, gone)
    used = {t.id.partition("::")[0] for t in tests}
    needed = {p for p in files if any(PurePosixPath(p).stem in files[u] for u in used if u != p)}
    return Kept({p: text for p, text in files.items() if p in used | needed}, tests)
