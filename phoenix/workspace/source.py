"""Take a project's code in from where it is, running and trusting nothing of it."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from phoenix.errors import GitFailed
from phoenix.workspace.git import Git
from phoenix.workspace.standin import stand_in, unreadable
from phoenix.workspace.tree import EMPTY_TREE, Draft, update_refs, write_commit

BASE = "refs/phoenix/base"
_SCP_LIKE = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9][A-Za-z0-9.-]*:(?!:)\S+")


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
        raise unreadable(source, "this kind of address is not allowed")
    if not source.strip() or not source.isprintable() or re.match(r"[A-Za-z0-9+.-]+::", source):
        raise unreadable(source, "this kind of address is not allowed")
    return _local(source, Path(unquote(parts.path) if parts else source).expanduser().absolute())


def _local(source: str, path: Path) -> Source:
    if path.is_dir():
        return Source("folder", str(path))
    if not path.is_file():
        raise unreadable(source, "there is no such folder or file")
    with path.open("rb") as file:
        if not re.match(rb"# v[23] git bundle\n", file.read(20)):
            raise unreadable(source, "it is a file, but no git bundle")
    return Source("bundle", str(path))


def take_in(repository: Path, source: str | None, *, timeout_seconds: float) -> None:
    """Make a new bare repository whose base is the source's head, or an empty commit.

    Raises:
        RepositoryUnreadable: the source cannot be read.
    """
    git = Git(repository)
    git.run("init", "--quiet", "--bare", "--initial-branch=main", str(repository))
    found = None
    if source is not None:
        with _unreadable_if_it_fails(source):
            found = _fetch(repository, locate(source), timeout_seconds)
    branch = found or "main"
    if found is None:
        empty = write_commit(git, Draft("refs/phoenix/commits", "Start empty", (), EMPTY_TREE))
        update_refs(git, [f"create {BASE} {empty.id}"])
    base = git.run("rev-parse", "--verify", f"{BASE}^{{commit}}").out.decode().strip()
    update_refs(git, [f"update {BASE} {base}", f"create refs/heads/{branch} {base}"])
    git.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")


def _fetch(repository: Path, source: Source, timeout_seconds: float) -> str | None:
    """Fetch the source's head as the base; return its branch, None when the source is empty."""
    with ExitStack() as stack:
        address = source.address
        if source.kind == "folder":
            place = repository.with_name(repository.name + ".source")
            stack.callback(shutil.rmtree, place, ignore_errors=True)
            address = str(stand_in(Path(address), place))
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


@contextmanager
def _unreadable_if_it_fails(source: str) -> Iterator[None]:
    try:
        yield
    except GitFailed as error:
        raise unreadable(source, error.message) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(source, error.strerror or "the operating system refuses") from error
