"""Read commits: files, logs and differences."""

from __future__ import annotations

import os

from phoenix.workspace.git import Git, commit_id
from phoenix.workspace.names import path_can_be_held
from phoenix.workspace.tree import read_blobs

_DIFF = ("diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-color")
MOST_PATCH_BYTES = 64 * 1024**2


def read_path(git: Git, commit: str, path: str) -> bytes | None:
    """Return a regular file of a commit; None when there is none."""
    if not path_can_be_held(path):
        return None
    name = os.fsencode(path)
    listing = git.run("--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit_id(commit), "--", path)
    for line in listing.out.split(b"\0"):
        meta, _, found = line.partition(b"\t")
        if found == name and meta.startswith((b"100644 ", b"100755 ", b"100664 ")):
            return git.run("cat-file", "blob", meta.split(b" ")[2].decode()).out
    return None


def read_all(git: Git, commit: str, max_file_bytes: int) -> dict[str, bytes]:
    """Return the regular files of a commit by path; larger ones with empty content."""
    files: dict[str, str] = {}
    small: set[str] = set()
    for line in git.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit_id(commit)).out.split(b"\0"):
        meta, tab, name = line.partition(b"\t")
        path = os.fsdecode(name)
        if tab and path_can_be_held(path) and meta.startswith(b"100"):
            _, _, id_, size = meta.decode().split()
            files[path] = id_
            if int(size) <= max_file_bytes:
                small.add(id_)
    found = dict(read_blobs(git, sorted(small)))
    return {path: found.get(id_, b"") for path, id_ in files.items()}


def commits_after(git: Git, base: str, commit: str) -> list[tuple[str, str]]:
    """Return (id, subject) of the commits after base, oldest first."""
    span = f"{commit_id(base)}..{commit_id(commit)}"
    out = git.run("log", "-z", "--topo-order", "--reverse", "--no-show-signature", "--format=%H %s", span).out
    lines = [line.decode("utf-8", "replace") for line in out.split(b"\0") if line]
    return [(line[:40], line[41:]) for line in lines]


def changed_paths(git: Git, base: str, commit: str) -> list[str]:
    """Return paths that differ between two commits, sorted."""
    ends = (commit_id(base), commit_id(commit))
    out = git.run(*_DIFF, "--no-renames", "--name-only", "-z", *ends).out
    return sorted(os.fsdecode(path) for path in out.split(b"\0") if path)


def unified_diff(git: Git, base: str, commit: str, max_bytes: int = MOST_PATCH_BYTES) -> str:
    """Return the unified diff between two commits; what is over a number of bytes is cut, and said."""
    ends = (commit_id(base), commit_id(commit))
    with git.talk(*_DIFF, "--patch", "--find-renames", *ends, timeout_seconds=120) as talk:
        data = talk.stdout.read(max_bytes + 1)
        if len(data) > max_bytes:
            talk.stop("enough")
    if len(data) <= max_bytes:
        return data.decode("utf-8", "replace")
    kept = data[:max_bytes].decode("utf-8", "ignore")
    return f"{kept}\n[diff cut after {max_bytes} bytes]\n"
