"""Take a project's code in from where it is, running and trusting nothing of it."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from phoenix.errors import GitFailed, RepositoryUnreadable
from phoenix.workspace.git import Git, readable
from phoenix.workspace.tree import EMPTY_TREE, Draft, update_refs, write_commit

BASE = "refs/phoenix/base"
_SCP_LIKE = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9.-]*:(?!:)\S+")
_HINT = "Give a folder with a git repository, a git bundle, or an https:// or ssh:// address."


@dataclass(frozen=True)
class Source:
    """Where code comes from. `address` is a URL or an absolute path."""

    kind: Literal["remote", "bundle", "folder"]
    address: str


def locate(source: str) -> Source:
    """Tell what kind of source this is.

    Raises:
        RepositoryUnreadable: it is none that Phoenix takes code from.
    """
    parts = urlsplit(source) if "://" in source else None
    if parts is not None and parts.scheme in ("https", "ssh"):
        return Source("remote", source)
    if parts is None and _SCP_LIKE.fullmatch(source):
        return Source("remote", source)
    if parts is not None and (parts.scheme != "file" or parts.netloc not in ("", "localhost")):
        raise _unreadable(source, "this kind of address is not allowed")
    if not source or "\0" in source or re.match(r"[A-Za-z0-9+.-]+::", source):
        raise _unreadable(source, "this kind of address is not allowed")
    path = Path(unquote(parts.path) if parts else source).expanduser().absolute()
    if path.is_dir():
        return Source("folder", str(path))
    if not path.is_file():
        raise _unreadable(source, "there is no such folder or file")
    with path.open("rb") as file:
        if not re.match(rb"# v[23] git bundle\n", file.read(20)):
            raise _unreadable(source, "it is a file, but no git bundle")
    return Source("bundle", str(path))


def take_in(repository: Path, source: str | None, *, timeout_seconds: float) -> None:
    """Make a new bare repository whose base is the source's head, or an empty commit.

    Raises:
        RepositoryUnreadable: the source cannot be read.
    """
    found = None if source is None else locate(source)
    git = Git(repository)
    git.run("init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    branch = "main"
    if found is not None and source is not None:
        try:
            branch = _fetch(repository, found, timeout_seconds) or ""
        except GitFailed as error:
            raise _unreadable(source, error.message.removeprefix("git ")) from error
    if found is None or not branch:
        branch = "main"
        empty = write_commit(git, Draft("refs/phoenix/commits", "Start empty\n", (), EMPTY_TREE))
        update_refs(git, [f"create {BASE} {empty.id}"])
    base = git.run("rev-parse", "--verify", f"{BASE}^{{commit}}").out.decode().strip()
    update_refs(git, [f"update {BASE} {base}", f"create refs/heads/{branch} {base}"])
    git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")


def _fetch(repository: Path, source: Source, timeout_seconds: float) -> str | None:
    """Fetch the source's head as the base; return its branch, None when the source is empty."""
    with ExitStack() as stack:
        address = source.address
        if source.kind == "folder":
            stand_in = repository.with_name(repository.name + ".source")
            stack.callback(shutil.rmtree, stand_in, ignore_errors=True)
            address = str(_stand_in(Path(address), stand_in))
        git = Git(repository, protocols="https:ssh" if source.kind == "remote" else "file")
        listing = git.run("ls-remote", "--symref", "--", address, timeout_seconds=timeout_seconds).out
        ref, branch = _head(listing.decode("utf-8", "replace"))
        if ref is None:
            return None
        git.run(
            *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"),
            *("--update-shallow", "--", address, f"+{ref}:{BASE}"),
            timeout_seconds=timeout_seconds,
        )
        return branch


def _head(listing: str) -> tuple[str | None, str]:
    """Return which ref of a remote is its head, and that branch's name."""
    names: dict[str, str] = {}
    refs: dict[str, str] = {}
    for line in listing.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: "):
            names[name] = value.removeprefix("ref: ")
        else:
            refs[name] = value
    heads = sorted(name for name in refs if name.startswith("refs/heads/"))
    if "HEAD" in refs:
        same = [name for name in heads if refs[name] == refs["HEAD"]]
        name = names.get("HEAD") or next(iter(same), "refs/heads/main")
        return "HEAD", name.removeprefix("refs/heads/")
    for name in ("refs/heads/main", "refs/heads/master", *heads[:1]):
        if name in heads:
            return name, name.removeprefix("refs/heads/")
    return None, ""


def _stand_in(folder: Path, to: Path) -> Path:
    """Make a bare repository that shares a folder's objects and refs but none of its configuration.

    git itself would read the folder's own configuration, some of which names programs to run.
    """
    git_dir, shared = _git_folders(folder)
    git = Git(to)
    asked = ("--file", str(shared / "config"), "--no-includes", "--get", "extensions.objectFormat")
    if git.run("config", *asked, expect=(0, 1)).out.strip() not in (b"", b"sha1"):
        raise _unreadable(str(folder), "its object format is not SHA-1")
    git.run("init", "--quiet", "--bare", str(to))
    for name in ("packed-refs", "shallow"):
        if (shared / name).is_file():
            shutil.copyfile(shared / name, to / name)
    shutil.rmtree(to / "refs")
    _copy_refs(shared / "refs", to / "refs")
    shutil.copyfile(git_dir / "HEAD", to / "HEAD")
    alternates = to / "objects" / "info" / "alternates"
    alternates.write_text(f"{shared / 'objects'}\n")
    return to


def _copy_refs(source: Path, to: Path) -> None:
    for folder, _, names in os.walk(source):
        there = to / Path(folder).relative_to(source)
        there.mkdir()
        for name in names:
            if (file := Path(folder, name)).is_file() and not file.is_symlink():
                shutil.copyfile(file, there / name)


def _git_folders(folder: Path) -> tuple[Path, Path]:
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


def _unreadable(source: str, why: str) -> RepositoryUnreadable:
    shown = readable(source.encode("utf-8", "replace"))
    return RepositoryUnreadable(f"{shown!r} cannot be read: {why}.", hint=_HINT, field="repository")
