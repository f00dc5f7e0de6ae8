"""A project's code, as people look at it: files of a commit, read from git's objects and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phoenix.domain.frozen import Frozen

FileKind = Literal["file", "executable", "link", "repository"]


class CodeFile(Frozen):
    """One entry of a commit. Links and nested repositories are named and never followed."""

    path: str
    kind: FileKind
    bytes: int | None
    """Its size; None where the entry has none."""


@dataclass(frozen=True)
class MergeResult:
    """`commit` is the merge; None when there are conflicts, which name the files."""

    commit: str | None
    conflicts: tuple[str, ...] = ()
