"""Where a project's folders are, and which of them are one attempt's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

WORKTREES = "refs/phoenix/worktrees"
_SCOPE = re.compile(r"([0-9a-f]{32})-([0-9]+)")


def scope_of(run_id: UUID, attempt: int) -> str:
    """Return the name of what belongs to one attempt of a run alone."""
    return f"{run_id.hex}-{attempt}"


def is_before(scope: str, other: str) -> bool:
    """Tell whether a scope is an earlier attempt's of the same run as another one."""
    mine, theirs = _SCOPE.fullmatch(scope), _SCOPE.fullmatch(other)
    return bool(mine and theirs and mine[1] == theirs[1] and int(mine[2]) < int(theirs[2]))


@dataclass(frozen=True)
class Places:
    """A project's folders.

    Worktrees lie below the scope, when there is one: an attempt that was superseded, and does not know it
    yet, writes into its own folders and into nobody else's.
    """

    root: Path
    """Holds the repository and its locks; machines may share it."""
    scope: str = ""
    local: Path | None = None
    """Holds the worktrees; the root when left out."""

    @property
    def repository(self) -> Path:
        return self.root / "repository.git"

    @property
    def private(self) -> Path:
        return self.root / "private"

    @property
    def all_worktrees(self) -> Path:
        return (self.local or self.root) / "worktrees"

    @property
    def trash(self) -> Path:
        """A folder of the same file system as the worktrees."""
        return (self.local or self.root) / "private" / "trash"

    def worktree(self, name: str) -> Path:
        """Return a worktree's folder."""
        return self.all_worktrees / self.scope / name

    def worktree_ref(self, name: str) -> str:
        """Return the ref that holds a worktree's base."""
        return "/".join(part for part in (WORKTREES, self.scope, name) if part)

    def lock(self, name: str) -> Path:
        """Return a lock's file."""
        return self.private / "locks" / name

    def worktree_lock(self, name: str) -> Path:
        """Return the file of a worktree's lock."""
        return self.lock("-".join(part for part in ("worktree", self.scope, name) if part))

    def mark(self, name: str) -> Path:
        """Return the file that names who last recorded or restored a worktree."""
        return self.private / "marks" / self.scope / name
