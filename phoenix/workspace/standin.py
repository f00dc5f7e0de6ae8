"""Bare repositories that stand in for a user's own: the same objects and refs, none of its configuration.

git itself would read the configuration and run the hooks of the repository that it fetches from or
pushes to, and both name programs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from phoenix.errors import GitFailed, RepositoryUnreadable
from phoenix.workspace.git import Git, readable

_HINT = "Give a folder with a git repository, a git bundle, or an https:// or ssh:// address."


def stand_in(folder: Path, to: Path) -> Path:
    """Make a bare repository to fetch from: a copy of a folder's refs over its objects."""
    git_dir, shared = git_folders(folder)
    git = Git(to)
    _initialise(git, shared)
    for name in ("packed-refs", "shallow"):
        if (shared / name).is_file():
            shutil.copyfile(shared / name, to / name)
    shutil.rmtree(to / "refs")
    _copy_refs(shared / "refs", to / "refs")
    shutil.copyfile(git_dir / "HEAD", to / "HEAD")
    alternates = to / "objects" / "info" / "alternates"
    alternates.write_text(f"{shared / 'objects'}\n")
    return to


def publish(git: Git, target: Path, name: str, to: Path) -> None:
    """Push a branch into a repository on this machine, which is neither asked nor told.

    Args:
        git: Has the branch.
        target: The other repository's folder.
        name: The branch.
        to: Where the stand-in may be made; the caller removes it.

    Raises:
        GitFailed: it is checked out there, or has other commits.
    """
    git_dir, shared = git_folders(target)
    ref = f"refs/heads/{name}"
    heads = [shared / "HEAD", git_dir / "HEAD", *shared.glob("worktrees/*/HEAD")]
    if any(head.read_text(errors="replace").strip() == f"ref: {ref}" for head in heads if head.is_file()):
        raise GitFailed(
            f"The branch {name} is checked out in {readable(os.fsencode(target))}.",
            hint="Switch to another branch there, then resume.",
        )
    other = Git(to)
    _initialise(other, shared)
    other.run("config", "receive.autoGc", "false")
    for part in ("objects", "refs"):
        shutil.rmtree(to / part)
        (to / part).symlink_to(shared / part)
    (to / "packed-refs").symlink_to(shared / "packed-refs")
    local = Git(git.repository, protocols="file")
    local.run("push", "--quiet", "--no-verify", "--", str(to), f"{ref}:{ref}", timeout_seconds=600)


def _initialise(git: Git, shared: Path) -> None:
    asked = ("--file", str(shared / "config"), "--no-includes", "--get", "extensions.objectFormat")
    if git.run("config", *asked, expect=(0, 1)).out.strip() not in (b"", b"sha1"):
        raise unreadable(str(shared), "its object format is not SHA-1")
    git.run("init", "--quiet", "--bare", str(git.repository))


def _copy_refs(source: Path, to: Path) -> None:
    for folder, _, names in os.walk(source):
        there = to / Path(folder).relative_to(source)
        there.mkdir()
        for name in names:
            if (file := Path(folder, name)).is_file() and not file.is_symlink():
                shutil.copyfile(file, there / name)


def git_folders(folder: Path) -> tuple[Path, Path]:
    """Return a repository's own folder, and the one it shares with its other worktrees."""
    git_dir = folder / ".git"
    if git_dir.is_file():
        text = git_dir.read_text(errors="replace").removeprefix("gitdir:").strip()
        git_dir = folder / text
    elif not git_dir.is_dir():
        git_dir = folder
    shared = git_dir
    if (git_dir / "commondir").is_file():
        shared = git_dir / (git_dir / "commondir").read_text(errors="replace").strip()
    if not (git_dir / "HEAD").is_file() or not (shared / "objects").is_dir():
        raise RepositoryUnreadable(
            f"{readable(os.fsencode(folder))} is not a git repository.",
            hint="Run `git init` there and commit its files, or give another folder.",
            field="repository",
        )
    if (shared / "reftable").is_dir():
        raise RepositoryUnreadable(
            f"{readable(os.fsencode(folder))} keeps its refs as a reftable, which is not read here.",
            hint="Give a bundle instead: git bundle create project.bundle HEAD",
            field="repository",
        )
    return git_dir.resolve(), shared.resolve()


def unreadable(source: str, why: str) -> RepositoryUnreadable:
    """Return the error for a source that cannot be used, passwords in it hidden."""
    shown = readable(source.encode("utf-8", "replace"))
    return RepositoryUnreadable(f"{shown!r} cannot be read: {why}.", hint=_HINT, field="repository")
