"""Trees and commits of the repository, and the one way Phoenix writes them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Literal, NamedTuple, TypeVar, cast

from phoenix.errors import DiskFull, GitFailed
from phoenix.workspace.git import Git, commit_id
from phoenix.workspace.names import path_can_be_held

FIRST_SECOND = 1_767_225_600
"""When every project's empty first commit was made: 2026-01-01 00:00 UTC."""
LAST_SECOND = 1 << 36
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
T = TypeVar("T")
_NO_COMMIT = "0" * 40
_COMMITTED = re.compile(rb"^committer .*?(-?\d+) [+-]\d+$", re.MULTILINE)

Mode = Literal["100644", "100755", "120000", "160000"]


class Entry(NamedTuple):
    """What a tree holds at a path: a file, an executable, a link, or a submodule's commit."""

    mode: Mode
    id: str


@dataclass(frozen=True)
class Commit:
    """A commit's id, tree and time in seconds."""

    id: str
    tree: str
    second: int


@dataclass(frozen=True)
class Draft:
    """A commit to be made: a tree, what differs from it, and where it hangs."""

    ref: str
    """The commit is kept under `ref/<id>`."""
    message: str
    parents: Sequence[Commit]
    tree: str
    changes: Sequence[tuple[str, Entry | None]] = ()
    """Paths with their new entry, None where there is none any more."""


def read_commit(git: Git, commit: str) -> Commit:
    """Return a commit's tree and time.

    Raises:
        GitFailed: there is no such commit.
    """
    head, *_ = raw = git.run("cat-file", "commit", commit_id(commit)).out.split(b"\n\n", 1)
    if not raw or not head.startswith(b"tree "):
        raise GitFailed(f"{commit} is no commit.")
    found = _COMMITTED.search(head)
    second = int(found[1]) if found else 0
    return Commit(commit, head[5:45].decode(), min(max(second, 0), LAST_SECOND))


def list_tree(git: Git, tree: str) -> dict[str, Entry]:
    """Return a tree's paths; those that cannot be laid out are left out, and stay as they are."""
    entries: dict[str, Entry] = {}
    for line in git.run("ls-tree", "-r", "-z", "--full-tree", commit_id(tree)).out.split(b"\0"):
        meta, tab, name = line.partition(b"\t")
        path = os.fsdecode(name)
        if tab and path_can_be_held(path):
            mode, _, id_ = meta.decode().split(" ")
            entries[path] = Entry(_mode(mode), id_)
    return entries


def read_blobs(git: Git, ids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each blob's id and content, in order."""
    if not ids:
        return
    with git.talk("cat-file", "--batch", timeout_seconds=600) as talk:
        for id_ in ids:
            talk.stdin.write(id_.encode() + b"\n")
            talk.stdin.flush()
            head = talk.stdout.readline().split()
            if len(head) != 3 or head[1] != b"blob":
                raise GitFailed(f"The repository lacks the file content {id_}.")
            data = talk.stdout.read(int(head[2]))
            talk.stdout.read(1)
            yield id_, data


def write_commit(
    git: Git, draft: Draft, *, blobs: IO[bytes] | None = None, hold: int | None = None
) -> Commit:
    """Make a commit, and a ref that keeps it. The same draft gives the same id.

    Args:
        git: The repository, whose lock is held: a lock file in the way is then a dead one's.
        draft: The commit.
        blobs: A seekable stream of fast-import `blob` commands for new content.
        hold: The lock's file descriptor.
    """
    return past_stale_locks(git, lambda: _import(git, draft, blobs, hold))


def update_refs(git: Git, commands: Sequence[str], *, hold: int | None = None) -> None:
    """Change refs in one transaction, by commands of `update-ref --stdin`, such as `create REF ID`.

    The repository's lock is held, as for `write_commit`.
    """
    stdin = "\n".join([*commands, ""]).encode()
    past_stale_locks(git, lambda: git.run("update-ref", "--stdin", stdin=stdin, hold=hold))


def past_stale_locks(git: Git, change: Callable[[], T]) -> T:
    """Do something to refs; when lock files of the dead may be in the way, clear them and repeat it.

    Whoever calls this holds the repository's lock, so no living process of Phoenix has such a file.
    """
    try:
        return change()
    except DiskFull:
        sweep(git)
        raise
    except GitFailed:
        if not sweep(git):
            raise
    return change()


def sweep(git: Git) -> bool:
    """Remove what dead git processes left half done; tell whether locks were among it.

    Whoever calls this holds the repository's lock.
    """
    locks = [*(git.repository / "refs").rglob("*.lock"), *git.repository.glob("*.lock")]
    packs = git.repository.glob("objects/pack/tmp_*")
    for path in (*locks, *packs, *git.repository.glob("fast_import_crash_*")):
        path.unlink(missing_ok=True)
    return bool(locks)


def _import(git: Git, draft: Draft, blobs: IO[bytes] | None, hold: int | None) -> Commit:
    second = max((p.second + 1 for p in draft.parents), default=FIRST_SECOND)
    with git.talk(
        "fast-import", "--quiet", "--done", "--force", "--date-format=raw", timeout_seconds=600, hold=hold
    ) as talk:
        if blobs is not None:
            blobs.seek(0)
            shutil.copyfileobj(blobs, talk.stdin, 1 << 20)
        talk.stdin.write(_commands(draft, second))
        talk.stdin.flush()
        commit = talk.stdout.readline().strip().decode()
        tree = talk.stdout.readline().split()
        keep = (
            f"reset {draft.ref}/{commit}\nfrom :1\n\nreset {draft.ref}/pending\nfrom {_NO_COMMIT}\n\ndone\n"
        )
        talk.stdin.write(keep.encode())
    return Commit(commit, tree[2].decode() if len(tree) > 2 else EMPTY_TREE, second)


def _commands(draft: Draft, second: int) -> bytes:
    message = draft.message.strip().encode("utf-8", "replace").replace(b"\0", b"") + b"\n"
    who = f"Phoenix <phoenix@localhost> {second} +0000"
    lines = [
        f"commit {draft.ref}/pending\nmark :1\nauthor {who}\ncommitter {who}\ndata {len(message)}\n".encode(),
        message,
        b"\n",
    ]
    lines += [f"{'merge' if n else 'from'} {parent.id}\n".encode() for n, parent in enumerate(draft.parents)]
    lines.append(f'M 040000 {draft.tree} ""\n'.encode() if draft.tree != EMPTY_TREE else b"deleteall\n")
    gone = [path for path, entry in draft.changes if entry is None]
    lines += [b"D " + _quoted(path) + b"\n" for path in gone]
    lines += [
        f"M {entry.mode} {entry.id} ".encode() + _quoted(path) + b"\n"
        for path, entry in draft.changes
        if entry is not None
    ]
    lines.append(b'\nget-mark :1\nls :1 ""\n')
    return b"".join(lines)


def _quoted(path: str) -> bytes:
    name = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"' + name + b'"'


def _mode(mode: str) -> Mode:
    match mode:
        case "100644" | "100664":
            return "100644"
        case "100755" | "120000" | "160000":
            return cast("Mode", mode)
    raise GitFailed(f"A tree holds an entry of the unknown mode {mode}.")
