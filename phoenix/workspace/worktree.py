"""One worktree: a folder of plain files, recorded and restored from outside."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, TypeVar

import structlog

from phoenix.workspace.folder import disk_errors
from phoenix.workspace.git import Git
from phoenix.workspace.history import changed_paths, unified_diff
from phoenix.workspace.layout import lay_out
from phoenix.workspace.locks import locked
from phoenix.workspace.places import Places
from phoenix.workspace.scan import Found, Memory, scan
from phoenix.workspace.tree import Commit, Draft, Entry, list_tree, read_commit, write_commit

T = TypeVar("T")
log = structlog.get_logger(__name__)

_IN_MEMORY_BYTES = 16 * 1024**2
COMMITS = "refs/phoenix/commits"


class GitWorktree:
    """A folder whose every state can be a commit. Works are serialised, between processes too."""

    def __init__(self, git: Git, places: Places, name: str, base: str) -> None:
        """Bind to a folder; `base` is the parent of its snapshots, and decides what is tracked."""
        self.path = places.worktree(name)
        self.name = name
        self.base = base
        self._git = git
        self._places = places
        self._turn = asyncio.Lock()
        self._memory = Memory()
        self._mark = ""
        self._skipped: list[tuple[str, str]] = []
        self._tracked: tuple[Commit, dict[str, Entry]] | None = None
        self._last: tuple[Commit, Mapping[str, Entry]] | None = None
        self._last_is_snapshot = False

    async def snapshot(self, message: str = "") -> str:
        """Record the folder and return the commit's id; the message only goes to the log."""
        commit = await self.apart(self.record)
        log.debug("workspace_snapshotted", worktree=self.name, commit=commit.id, message=message)
        return commit.id

    async def restore(self, commit: str) -> None:
        """Make the folder exactly that commit."""
        await self.apart(lambda: self.reset(read_commit(self._git, commit)))

    async def current(self) -> str | None:
        """Return the commit last recorded or restored, if that was here and nobody did so since."""
        return await asyncio.to_thread(self._current)

    async def diff(self, base: str, *, max_bytes: int = 200_000) -> str:
        """Return the unified diff from a commit to the folder as it is, cut at a number of bytes."""
        commit = await self.apart(self.record)
        return await asyncio.to_thread(unified_diff, self._git, base, commit.id, max_bytes)

    async def changed(self, base: str) -> list[str]:
        """Return paths that differ between a commit and the folder as it is, sorted."""
        commit = await self.apart(self.record)
        return await asyncio.to_thread(changed_paths, self._git, base, commit.id)

    async def files(self) -> list[str]:
        """Return all paths that are not ignored, sorted."""
        return await self.apart(lambda: sorted(self._scan(self._base()[1], None).entries))

    async def apart(self, work: Callable[[], T]) -> T:
        """Do blocking work on the folder in a thread, alone.

        The file lock holds even when the waiting task is cancelled and its thread goes on.
        """
        async with self._turn:
            return await asyncio.to_thread(self._alone, work)

    def record(self) -> Commit:
        """Make the folder a snapshot."""
        if self._last_is_snapshot and self._current():
            return self._commit(f"refs/phoenix/snapshots/{self.name}", "Snapshot", None)
        commit = self._commit(f"refs/phoenix/snapshots/{self.name}", "Snapshot", (self._base()[0],))
        self._last_is_snapshot = True
        return commit

    def commit(self, message: str, parents: Sequence[Commit]) -> Commit:
        """Make the folder a lasting commit."""
        commit = self._commit(COMMITS, message, parents)
        self._last_is_snapshot = False
        return commit

    def reset(self, commit: Commit, *, base: str | None = None) -> None:
        """Make the folder a commit's tree. It counts as nobody's until that is done."""
        if base is not None:
            self.rebase(base)
        with self._marked():
            self._last_is_snapshot = False
            entries = list_tree(self._git, commit.tree)
            lay_out(self._git, self.path, entries, self._memory, self._places.trash)
            self._last = (commit, entries)

    def rebase(self, base: str) -> None:
        """Take another commit for the parent of snapshots."""
        if base != self.base:
            self.base, self._tracked, self._last_is_snapshot = base, None, False

    def _commit(self, ref: str, message: str, parents: Sequence[Commit] | None) -> Commit:
        """Commit the folder; without parents, only if it differs from the last one."""
        last, stored = self._last or self._base()
        private = str(self._places.root / "private")
        with self._marked(), tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=private) as blobs:
            found = self._scan(stored, blobs)
            changes = _changes(stored, found.entries)
            if not changes and parents is None:
                return last
            given = (self._base()[0],) if parents is None else parents
            draft = Draft(ref, message, given, last.tree, changes)
            with locked(self._places.lock("repository")) as hold:
                commit = write_commit(self._git, draft, blobs=blobs, hold=hold)
            self._last = (commit, found.entries)
            return commit

    def _scan(self, stored: Mapping[str, Entry], blobs: IO[bytes] | None) -> Found:
        tracked = self._base()[1]
        found = scan(self._git, self.path, tracked=tracked, stored=stored, memory=self._memory, blobs=blobs)
        if found.skipped and found.skipped != self._skipped:
            shown = [f"{path.encode('unicode_escape').decode()}: {why}" for path, why in found.skipped[:20]]
            log.warning(
                "workspace_entries_left_out", worktree=self.name, count=len(found.skipped), first=shown
            )
        self._skipped = found.skipped
        return found

    def _base(self) -> tuple[Commit, dict[str, Entry]]:
        if self._tracked is None:
            commit = read_commit(self._git, self.base)
            self._tracked = (commit, list_tree(self._git, commit.tree))
        return self._tracked

    def _alone(self, work: Callable[[], T]) -> T:
        with disk_errors(), locked(self._places.worktree_lock(self.name)):
            return work()

    def _current(self) -> str | None:
        mark = self._places.mark(self.name)
        if self._last is None or not self._mark or not mark.exists() or mark.read_text() != self._mark:
            return None
        return self._last[0].id

    @contextmanager
    def _marked(self) -> Iterator[None]:
        """Leave the folder marked as ours if all goes well; meanwhile, and else, as nobody's."""
        mark = self._places.mark(self.name)
        if not self._mark or not mark.exists() or mark.read_text() != self._mark:
            self._last_is_snapshot = False
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.unlink(missing_ok=True)
        owner, self._mark = self._mark or uuid.uuid4().hex, ""
        yield
        mark.write_text(owner)
        self._mark = owner


def _changes(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[tuple[str, Entry | None]]:
    gone: list[tuple[str, Entry | None]] = [(path, None) for path in old if path not in new]
    return gone + [(path, entry) for path, entry in new.items() if old.get(path) != entry]
