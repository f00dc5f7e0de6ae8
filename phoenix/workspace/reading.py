"""Read the code of projects for people: through git's objects, so that no link leads anywhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from phoenix.domain.code import CodeFile, FileKind
from phoenix.workspace.folder import disk_errors
from phoenix.workspace.git import Git, commit_id
from phoenix.workspace.history import read_path, unified_diff
from phoenix.workspace.names import path_can_be_held
from phoenix.workspace.places import Places
from phoenix.workspace.source import BASE

T = TypeVar("T")

KINDS: dict[bytes, FileKind] = {
    b"100644": "file",
    b"100664": "file",
    b"100755": "executable",
    b"120000": "link",
    b"160000": "repository",
}


class ProjectCode:
    """Reads the repositories of all projects: a folder each, named by the project's id.

    Args:
        folder: Where the projects' folders are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def base(self, project_id: UUID) -> str | None:
        """Return the commit that a project began with; None where it has no repository yet."""
        return await self._read(project_id, lambda git: _resolved(git, BASE))

    async def files(
        self, project_id: UUID, commit: str, *, after: str = "", limit: int = 500
    ) -> list[CodeFile] | None:
        """Return files of a commit, ordered by the bytes of their paths; None when there is no such commit.

        Args:
            project_id: Whose.
            commit: Its full id.
            after: Only those whose path comes after this one.
            limit: The most that are returned.
        """

        def listed(git: Git) -> list[CodeFile] | None:
            if _resolved(git, commit_id(commit)) is None:
                return None
            begin = os.fsencode(after)
            found: list[CodeFile] = []
            for name, file in _entries(git, commit):
                if name > begin:
                    found.append(file)
                if len(found) == limit:
                    break
            return found

        return await self._read(project_id, listed)

    async def size(self, project_id: UUID, commit: str, path: str) -> int | None:
        """Return how large a regular file of a commit is; None when there is none."""

        def sized(git: Git) -> int | None:
            if not path_can_be_held(path) or _resolved(git, commit_id(commit)) is None:
                return None
            files = (file for _, file in _entries(git, commit, path))
            return next((f.bytes for f in files if f.path == path and f.kind in ("file", "executable")), None)

        return await self._read(project_id, sized)

    async def read(self, project_id: UUID, commit: str, path: str) -> bytes | None:
        """Return a regular file of a commit; None when there is none."""
        return await self._read(project_id, lambda git: read_path(git, commit, path))

    async def patch(self, project_id: UUID, base: str, commit: str, *, max_bytes: int) -> str | None:
        """Return the diff between two commits, cut after so many bytes; None when one is not there."""

        def made(git: Git) -> str | None:
            if None in (_resolved(git, commit_id(base)), _resolved(git, commit_id(commit))):
                return None
            return unified_diff(git, base, commit, max_bytes)

        return await self._read(project_id, made)

    async def _read(self, project_id: UUID, work: Callable[[Git], T | None]) -> T | None:
        repository = Places((self._folder / str(project_id)).absolute()).repository

        def guarded() -> T | None:
            if not repository.is_dir():
                return None
            with disk_errors():
                return work(Git(repository))

        return await asyncio.to_thread(guarded)


def _resolved(git: Git, name: str) -> str | None:
    answer = git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", expect=(0, 1))
    return answer.out.decode().strip() or None


def _entries(git: Git, commit: str, *paths: str) -> Iterator[tuple[bytes, CodeFile]]:
    """Yield what a commit holds, with the bytes of its path, in git's order: that of the bytes."""
    command = ("--literal-pathspecs", "ls-tree", "-r", "-l", "-z", "--full-tree", commit_id(commit))
    for line in git.run(*command, "--", *paths).out.split(b"\0"):
        meta, tab, name = line.partition(b"\t")
        path = os.fsdecode(name)
        if tab and path_can_be_held(path) and (kind := KINDS.get(meta[:6])):
            size = meta.split()[3]
            yield name, CodeFile(path=path, kind=kind, bytes=int(size) if size.isdigit() else None)
