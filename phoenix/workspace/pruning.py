"""Give back the space of a finished project: worktrees and snapshots go, commits and branches stay."""

from __future__ import annotations

import os
from pathlib import Path

from phoenix.workspace.git import Git
from phoenix.workspace.layout import discard
from phoenix.workspace.locks import locked
from phoenix.workspace.places import WORKTREES, Places
from phoenix.workspace.tree import past_stale_locks, update_refs

GIVEN_UP = ("refs/phoenix/snapshots", WORKTREES)
GC_SECONDS = 900.0


def prune(git: Git, places: Places, *, expire_seconds: int) -> int:
    """Remove worktrees and snapshots of all attempts; return the bytes that gives back."""
    before = size_of(places.root) + _local_size(places)
    remove_worktrees(places)
    _collect(git, places, expire_seconds=expire_seconds)
    return max(0, before - size_of(places.root) - _local_size(places))


def remove_worktrees(places: Places) -> None:
    """Remove the folders of the worktrees of all attempts, and who last recorded each. Idempotent."""
    for parent in (places.all_worktrees, places.private / "marks"):
        for folder in list(parent.iterdir()) if parent.is_dir() else ():
            discard(folder, places.trash if parent == places.all_worktrees else places.private / "trash")


def _local_size(places: Places) -> int:
    return size_of(places.local) if places.local else 0


def would_free(git: Git, places: Places) -> int:
    """Return about how many bytes pruning would give back."""
    refs = git.run("for-each-ref", "--format=%(refname)").out.decode().splitlines()
    going = [ref for ref in refs if ref.startswith(GIVEN_UP)]
    staying = [f"^{ref}" for ref in refs if not ref.startswith(GIVEN_UP)]
    objects = 0
    if going:
        asked = "\n".join([*going, *staying, ""]).encode()
        objects = int(git.run("rev-list", "--objects", "--disk-usage", "--stdin", stdin=asked).out)
    return objects + size_of(places.all_worktrees) + size_of(places.trash)


def _collect(git: Git, places: Places, *, expire_seconds: int) -> None:
    """Drop the refs of worktrees and snapshots, and what nothing refers to any more once it is so old."""
    with locked(places.lock("repository"), timeout_seconds=GC_SECONDS) as hold:
        refs = git.run("for-each-ref", "--format=%(refname)", *GIVEN_UP).out.decode().splitlines()
        if refs:
            update_refs(git, [f"delete {ref}" for ref in refs], hold=hold)
        expiry = "now" if not expire_seconds else f"{expire_seconds}.seconds.ago"
        past_stale_locks(
            git,
            lambda: git.run("gc", "--quiet", f"--prune={expiry}", timeout_seconds=GC_SECONDS, hold=hold),
        )


def size_of(folder: Path) -> int:
    """Return the bytes that a folder's entries take on disk; no link is followed."""
    total = 0
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            try:
                found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 foreign names
            except FileNotFoundError:
                continue  # somebody else removes it at the same time
            total += found.st_blocks * 512
    return total
