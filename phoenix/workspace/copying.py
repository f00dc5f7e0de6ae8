"""Give a project its own copy of another's repository: commits and refs, files shared by hard links."""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from pathlib import Path
from uuid import UUID

from phoenix.workspace.folder import disk_errors
from phoenix.workspace.git import Git
from phoenix.workspace.ignore import CACHES
from phoenix.workspace.layout import discard_folder
from phoenix.workspace.locks import locked
from phoenix.workspace.places import Places
from phoenix.workspace.tree import update_refs

LEFT_OUT = ("refs/phoenix/worktrees/", "refs/heads/phoenix/")
"""Worktrees are made anew from their commits; what the other project delivered is its own."""


class ProjectRepositories:
    """The repositories of all projects: a folder each, named by the project's id.

    Args:
        folder: Where the projects' folders are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def copy(self, source: UUID, target: UUID) -> None:
        """Give a new project its own copy of another's repository. Idempotent."""
        here, there = self._folder / str(source), self._folder / str(target)
        await asyncio.to_thread(copy_repository, here, there)

    async def discard(self, project_id: UUID) -> None:
        """Remove a project's repository. Idempotent."""
        await asyncio.to_thread(discard_repository, self._folder / str(project_id))


def copy_repository(source: Path, target: Path) -> None:
    """Copy the repository of one project's folder to another's. Idempotent; complete or not there at all.

    The other repository is only read, under its lock, so that what is copied holds together. Object files
    never change, so both may share them; each removes only its own names of them.

    Args:
        source: The project's folder that is copied from. Without a repository nothing is done.
        target: The folder of the new project.
    """
    here, there = Places(source.absolute()), Places(target.absolute())
    if not here.repository.exists() or there.repository.exists():
        return
    with disk_errors():
        there.root.mkdir(parents=True, exist_ok=True)
        new = there.root / f"repository.git.{uuid.uuid4().hex}"
        with locked(here.lock("repository")):
            _copy(Git(here.repository), new)
        new.rename(there.repository)


def discard_repository(folder: Path) -> None:
    """Remove a project's folder. Idempotent."""
    with disk_errors():
        discard_folder(folder)


def _copy(git: Git, new: Path) -> None:
    head = git.run("symbolic-ref", "HEAD").out.decode().strip()
    listing = git.run("for-each-ref", "--format=%(objectname) %(refname)").out.decode()
    refs = [line.partition(" ") for line in listing.splitlines()]
    copy = Git(new)
    copy.run("init", "--quiet", "--bare", "--initial-branch=main", str(new))
    _link(git.repository / "objects", new / "objects")
    if (git.repository / "shallow").is_file():
        shutil.copyfile(git.repository / "shallow", new / "shallow")
    (new / "info").mkdir(exist_ok=True)
    (new / "info" / "exclude").write_text(CACHES)
    update_refs(copy, [f"create {ref} {commit}" for commit, _, ref in refs if not ref.startswith(LEFT_OUT)])
    copy.run("symbolic-ref", "HEAD", head)


def _link(source: Path, target: Path) -> None:
    """Give every object file another name below the target; copy it where file systems differ."""
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(exist_ok=True)
        for name in names:
            if name.startswith("tmp_"):
                continue
            try:
                os.link(Path(folder, name), there / name)
            except FileExistsError:
                continue
            except OSError:
                shutil.copyfile(Path(folder, name), there / name)
