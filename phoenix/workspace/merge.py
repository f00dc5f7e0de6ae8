"""Merge two commits without a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass

from phoenix.workspace.git import Git, commit_id


@dataclass(frozen=True)
class Merged:
    """The merged tree, with markers in files that conflict."""

    tree: str
    conflicts: tuple[str, ...]


def contains(git: Git, commit: str, other: str) -> bool:
    """Tell whether a commit has another one in its history."""
    ends = (commit_id(other), commit_id(commit))
    return git.run("merge-base", "--is-ancestor", *ends, expect=(0, 1)).code == 0


def merge_trees(git: Git, ours: str, theirs: str) -> Merged:
    """Merge in the repository alone; no merge driver takes part.

    Raises:
        GitFailed: the two have no common history.
    """
    ends = (commit_id(ours), commit_id(theirs))
    answer = git.run("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", *ends, expect=(0, 1))
    tree, *paths = answer.out.split(b"\0")
    conflicts = sorted({os.fsdecode(path) for path in paths if path})
    return Merged(tree.decode().strip(), tuple(conflicts))
