"""The repository of one project, on the git command line."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from phoenix.domain.code import MergeResult
from phoenix.errors import GitFailed, WorkspaceError
from phoenix.ports import Worktree
from phoenix.workspace import history, pruning
from phoenix.workspace.folder import disk_errors
from phoenix.workspace.git import Git, commit_id
from phoenix.workspace.ignore import CACHES
from phoenix.workspace.layout import discard, discard_folder
from phoenix.workspace.locks import locked
from phoenix.workspace.merge import Merged, contains, merge_trees
from phoenix.workspace.names import is_worktree_name
from phoenix.workspace.places import WORKTREES, Places, is_before
from phoenix.workspace.push import push
from phoenix.workspace.source import BASE, locate, take_in
from phoenix.workspace.standin import publish
from phoenix.workspace.tree import Commit, Draft, read_commit, sweep, update_refs, write_commit
from phoenix.workspace.worktree import COMMITS, GitWorktree

T = TypeVar("T")


class GitWorkspace:
    """A bare repository and its worktrees, all below the project's folder."""

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        scope: str = "",
        local: Path | None = None,
        timeout_seconds: float = 600.0,
    ) -> None:
        """Bind to a project's folder.

        Args:
            root: The folder, made when it is missing; machines may share it.
            name: The project's name, for messages.
            scope: The attempt whose worktrees these are (see `scope_of`); empty for whoever comes.
            local: The folder of the worktrees; the root when left out.
            timeout_seconds: How long taking in a source may last.
        """
        self.name = name
        self._places = Places(root.absolute(), scope, local.absolute() if local else None)
        self.repository = self._places.repository
        self._git = Git(self.repository)
        self._timeout_seconds = timeout_seconds
        self._open: dict[str, GitWorktree] = {}
        self._swept = False

    async def prepare(self, source: str | None) -> str:
        """Make the repository, from a source or empty, and return the base commit. Idempotent."""
        return await _thread(lambda: self._prepare(source))

    async def worktree(self, name: str, commit: str) -> Worktree:
        """Open the named worktree, made at the commit when it is new. Idempotent."""
        return await self._opened(name, commit)

    async def remove(self, name: str) -> None:
        """Remove a worktree and its snapshots' refs. Idempotent."""
        tree = self._open.pop(name, None) or GitWorktree(self._git, self._places, _valid(name), "")
        await tree.apart(lambda: self._remove(name))

    async def commit(self, name: str, *, message: str, parents: Sequence[str]) -> str:
        """Make a lasting commit of a worktree's folder. The same input gives the same id."""
        tree = await self._existing(name)
        made = await tree.apart(
            lambda: tree.commit(message, [read_commit(self._git, parent) for parent in parents])
        )
        return made.id

    async def merge(self, ours: str, theirs: str, *, message: str) -> MergeResult:
        """Merge two commits; what is merged already gives ours, all else a merge commit."""
        return await _thread(lambda: self._merge(ours, theirs, message))

    async def conflicted(self, name: str, ours: str, theirs: str) -> tuple[str, ...]:
        """Lay out a merge, with markers, in a worktree and return the files in conflict.

        The worktree's base becomes `ours`, and the merge its first snapshot.
        """
        tree = await self._opened(name, ours)
        return await tree.apart(lambda: self._conflicted(tree, ours, theirs))

    async def read(self, commit: str, path: str) -> bytes | None:
        """Return a regular file of a commit; None when there is none."""
        return await _thread(lambda: history.read_path(self._git, commit, path))

    async def log(self, base: str, commit: str) -> list[tuple[str, str]]:
        """Return (id, subject) of the commits after base, oldest first."""
        return await _thread(lambda: history.commits_after(self._git, base, commit))

    async def tree(self, commit: str) -> str | None:
        """Return the id of a commit's tree; None when there is no such commit."""
        return await _thread(lambda: self._ref(f"{commit_id(commit)}^{{tree}}"))

    async def branch(self, name: str, commit: str) -> None:
        """Point a branch at a commit. Idempotent.

        Raises:
            GitFailed: no branch can be called so, or there is no such commit.
        """
        await _thread(lambda: self._branch(name, commit))

    async def contents(self, commit: str, *, max_file_bytes: int = 200_000) -> dict[str, bytes]:
        """Return the regular files of a commit by path; larger ones with empty content."""
        return await _thread(lambda: history.read_all(self._git, commit, max_file_bytes))

    async def publish(self, target: str, name: str) -> None:
        """Push a branch to another repository; nothing checked out there changes. Idempotent.

        Of one on this machine no hook runs and nothing of its configuration is used.

        Raises:
            GitFailed: the branch is checked out there, or has other commits, or it is not taken.
            RepositoryUnreadable: the target is no such repository.
        """
        await _thread(lambda: self._publish(target, name))

    async def patch(self, base: str, commit: str) -> str:
        """Return the unified diff between two commits."""
        return await _thread(lambda: history.unified_diff(self._git, base, commit))

    async def prune(self, *, dry_run: bool = False, expire_seconds: int = 3600) -> int:
        """Remove all worktrees and snapshots and return the bytes that gives back. Idempotent.

        Branches and lasting commits stay. What nothing refers to goes once it is that old.
        """
        if not self.repository.exists():
            return 0
        if dry_run:
            return await _thread(lambda: pruning.would_free(self._git, self._places))
        self._open.clear()
        return await _thread(lambda: pruning.prune(self._git, self._places, expire_seconds=expire_seconds))

    async def destroy(self) -> None:
        """Remove the project's folders with all that is in them. Idempotent."""
        self._open.clear()
        for folder in filter(None, (self._places.local, self._places.root)):
            await _thread(lambda folder=folder: discard_folder(folder))  # type: ignore[misc]

    def _prepare(self, source: str | None) -> str:
        places = self._places
        places.all_worktrees.mkdir(parents=True, exist_ok=True)
        with locked(places.lock("prepare")):
            for left in places.root.glob("repository.git.*"):
                # A dead process's git may still be writing there: then the next call removes it.
                shutil.rmtree(left, ignore_errors=True)
            if not places.repository.exists():
                new = places.root / f"repository.git.{uuid.uuid4().hex}"
                take_in(new, source, timeout_seconds=self._timeout_seconds)
                (new / "info").mkdir(exist_ok=True)
                (new / "info" / "exclude").write_text(CACHES)
                new.rename(places.repository)
        with locked(places.lock("repository")):
            sweep(self._git)
        return self._ref(BASE) or _broken(places.repository)

    async def _opened(self, name: str, commit: str) -> GitWorktree:
        tree = self._open.setdefault(name, GitWorktree(self._git, self._places, _valid(name), commit))
        await tree.apart(lambda: self._make(tree, commit))
        return tree

    async def _existing(self, name: str) -> GitWorktree:
        ref = self._places.worktree_ref(_valid(name))
        base = await _thread(lambda: self._ref(ref))
        if base is None:
            raise WorkspaceError(f"There is no worktree {name}.", hint="Open it first.")
        return await self._opened(name, base)

    def _make(self, tree: GitWorktree, commit: str) -> None:
        """Make a worktree if it is not there. Its ref comes last, so that half of one is made anew."""
        self._sweep_scopes()
        ref = self._places.worktree_ref(tree.name)
        base = self._ref(ref)
        if base is not None and tree.path.is_dir():
            tree.rebase(base)
            return
        tree.reset(read_commit(self._git, base or commit), base=base or commit)
        if base is None:
            self._update_refs([f"update {ref} {commit_id(commit)}"])

    def _sweep_scopes(self) -> None:
        """Remove the worktrees of earlier attempts of this run, once; whoever is still there loses nothing.

        Their snapshots stay: checkpoints name them.
        """
        places = self._places
        if not places.scope or self._swept:
            return
        self._swept = True
        for folder in places.all_worktrees.glob(f"{places.scope.partition('-')[0]}-*"):
            if is_before(folder.name, places.scope):
                discard(folder, places.trash)
        dead = [ref for ref in self._refs(WORKTREES) if is_before(ref.split("/")[3], places.scope)]
        if dead:
            self._update_refs([f"delete {ref}" for ref in dead])

    def _refs(self, *patterns: str) -> list[str]:
        return self._git.run("for-each-ref", "--format=%(refname)", *patterns).out.decode().splitlines()

    def _remove(self, name: str) -> None:
        discard(self._places.worktree(name), self._places.trash)
        refs = self._refs(f"refs/phoenix/snapshots/{name}", self._places.worktree_ref(name))
        self._update_refs([f"delete {ref}" for ref in refs])
        self._places.mark(name).unlink(missing_ok=True)

    def _merge(self, ours: str, theirs: str, message: str) -> MergeResult:
        if contains(self._git, ours, theirs):
            return MergeResult(ours)
        merged = merge_trees(self._git, ours, theirs)
        if merged.conflicts:
            return MergeResult(None, merged.conflicts)
        return MergeResult(self._commit_merge(COMMITS, merged, message, ours, theirs).id)

    def _conflicted(self, tree: GitWorktree, ours: str, theirs: str) -> tuple[str, ...]:
        merged = merge_trees(self._git, ours, theirs)
        snapshot = self._commit_merge(f"refs/phoenix/snapshots/{tree.name}", merged, "Snapshot", ours)
        self._update_refs([f"update {self._places.worktree_ref(tree.name)} {ours}"])
        tree.reset(snapshot, base=ours)
        return merged.conflicts

    def _commit_merge(self, ref: str, merged: Merged, message: str, *parents: str) -> Commit:
        found = [read_commit(self._git, parent) for parent in parents]
        with locked(self._places.lock("repository")) as hold:
            return write_commit(self._git, Draft(ref, message, found, merged.tree), hold=hold)

    def _branch(self, name: str, commit: str) -> None:
        ref = self._check_branch(name)
        read_commit(self._git, commit)
        self._update_refs([f"update {ref} {commit}"])

    def _check_branch(self, name: str) -> str:
        ref = f"refs/heads/{name}"
        plain = name.isprintable() and not name.startswith("-")
        if not plain or self._git.run("check-ref-format", ref, expect=(0, 1)).code:
            raise GitFailed(f"{name[:100]!r} cannot be a branch's name.", hint="Use letters and digits.")
        return ref

    def _publish(self, target: str, name: str) -> None:
        where = locate(target)
        if where.kind == "bundle":
            raise GitFailed("Nothing can be pushed to a bundle.", hint="Name a folder or an address.")
        self._check_branch(name)
        if where.kind == "remote":
            push(self._git, where.address, name)
            return
        to = self._places.root / "private" / f"publish-{uuid.uuid4().hex}"
        try:
            publish(self._git, Path(where.address), name, to)
        finally:
            shutil.rmtree(to, ignore_errors=True)

    def _ref(self, name: str) -> str | None:
        answer = self._git.run("rev-parse", "--verify", "--quiet", name, expect=(0, 1))
        return answer.out.decode().strip() or None

    def _update_refs(self, commands: Sequence[str]) -> None:
        with locked(self._places.lock("repository")) as hold:
            update_refs(self._git, commands, hold=hold)


async def _thread(work: Callable[[], T]) -> T:
    def guarded() -> T:
        with disk_errors():
            return work()

    return await asyncio.to_thread(guarded)


def _valid(name: str) -> str:
    if not is_worktree_name(name):
        raise WorkspaceError(
            f"{name[:100]!r} cannot be a worktree's name.", hint="Use letters, digits, dots, - and _."
        )
    return name


def _broken(repository: Path) -> str:
    raise GitFailed(
        f"The repository {repository.name} of this project has lost its base.",
        hint="Restore the project's folder from a backup, or start the project anew.",
    )
