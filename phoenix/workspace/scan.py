"""Find what a folder holds: the entries that a snapshot of it stores."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from phoenix.workspace.folder import Stamp, blob_id, blob_id_of, copy, opened, opened_file
from phoenix.workspace.git import Git
from phoenix.workspace.ignore import Ignore
from phoenix.workspace.names import can_be_held
from phoenix.workspace.tree import Entry

DEEPEST = 100
"""Folders within folders; what lies deeper is left out."""


@dataclass
class Memory:
    """What this process remembers of a folder, so that unchanged files are not read again."""

    stamps: dict[str, tuple[Stamp, Entry, int]] = field(default_factory=dict)
    """Path → its stamp, what it was, and when that was seen in nanoseconds."""
    answers: dict[tuple[str, str], bool] = field(default_factory=dict)
    """What git said about ignoring."""

    def recall(self, path: str, found: os.stat_result) -> Entry | None:
        """Return what a file is, if it surely has not changed since it was seen."""
        stamp, entry, seen_ns = self.stamps.get(path, (None, None, 0))
        return entry if stamp is not None and stamp == Stamp.of(found) and stamp.settled(seen_ns) else None


@dataclass
class Found:
    """Entries by path, and what cannot be stored: (path, why)."""

    entries: dict[str, Entry] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def scan(
    git: Git,
    folder: Path,
    *,
    tracked: Mapping[str, Entry],
    stored: Mapping[str, Entry],
    memory: Memory,
    blobs: IO[bytes] | None = None,
) -> Found:
    """Walk a folder.

    Args:
        git: Answers what is ignored.
        folder: Walked without following links; a top folder that is a link is refused.
        tracked: Paths that count even if they are ignored, as they were in the base.
        stored: Entries whose content the repository is known to have.
        memory: Of the walk before; it is brought up to date.
        blobs: Where content that is not stored is appended, as fast-import commands.
    """
    with opened(folder) as fd, Ignore(git, folder, memory.answers) as ignore:
        walk = _Walk(ignore, tracked, stored, memory, blobs)
        walk.folder(fd, "", "", all_ignored=False)
    memory.answers = ignore.answers
    memory.stamps = walk.stamps
    return walk.found


@dataclass(frozen=True)
class _Item:
    """One entry of a folder. A folder's path ends with a slash."""

    name: str
    path: str
    stat: os.stat_result


class _Walk:
    def __init__(
        self,
        ignore: Ignore,
        tracked: Mapping[str, Entry],
        stored: Mapping[str, Entry],
        memory: Memory,
        blobs: IO[bytes] | None,
    ) -> None:
        self.found = Found()
        self.stamps: dict[str, tuple[Stamp, Entry, int]] = {}
        self._ignore = ignore
        self._tracked = tracked
        self._tracked_folders = folders_of(tracked)
        self._stored = stored
        self._memory = memory
        self._blobs = blobs

    def folder(self, fd: int, prefix: str, rules: str, *, all_ignored: bool) -> None:
        items = self._items(fd, prefix)
        rules = self._rules(fd, rules, items)
        paths = [item.path for item in items]
        ignored = set(paths) if all_ignored else self._ignore.ignored(rules, paths)
        for item in items:
            left_out = item.path in ignored
            if item.path.endswith("/"):
                if not left_out or item.path in self._tracked_folders:
                    self._subfolder(fd, item, rules, all_ignored=left_out)
            elif not left_out or item.path in self._tracked:
                self.found.entries[item.path] = self._entry(fd, item, self._blobs)

    def _items(self, fd: int, prefix: str) -> list[_Item]:
        items = []
        with os.scandir(fd) as listing:
            for each in sorted(listing, key=lambda e: e.name):
                path = prefix + each.name
                found = each.stat(follow_symlinks=False)
                reason = _reason(each.name, path, found)
                if not reason:
                    items.append(_Item(each.name, f"{path}/" if stat.S_ISDIR(found.st_mode) else path, found))
                elif each.name != ".git":
                    self.found.skipped.append((path, reason))
                if reason == "kind" and each.name == ".gitignore":
                    os.unlink(each.name, dir_fd=fd)  # git would wait on such a pipe for ever
        return items

    def _rules(self, fd: int, rules: str, items: list[_Item]) -> str:
        for item in items:
            if item.name == ".gitignore" and stat.S_ISREG(item.stat.st_mode):
                own = self._entry(fd, item, None).id
                return hashlib.sha256(f"{rules}\0{item.path}\0{own}".encode()).hexdigest()
        return rules

    def _subfolder(self, parent: int, item: _Item, rules: str, *, all_ignored: bool) -> None:
        before = len(self.found.entries)
        with opened(item.name, parent) as fd:
            self.folder(fd, item.path, rules, all_ignored=all_ignored)
        path = item.path.rstrip("/")
        submodule = self._tracked.get(path)
        if submodule is not None and submodule.mode == "160000" and len(self.found.entries) == before:
            self.found.entries[path] = submodule

    def _entry(self, fd: int, item: _Item, blobs: IO[bytes] | None) -> Entry:
        entry = self._memory.recall(item.path, item.stat)
        stored = self._stored.get(item.path)
        if entry is not None and (blobs is None or entry == stored):
            self.stamps[item.path] = self._memory.stamps[item.path]
            return entry
        seen_ns = time.time_ns()
        if stat.S_ISLNK(item.stat.st_mode):
            target = os.fsencode(os.readlink(item.name, dir_fd=fd))
            entry = Entry("120000", blob_id(target))
            if blobs is not None and entry != stored:
                blobs.write(b"blob\ndata %d\n%s\n" % (len(target), target))
        else:
            entry = self._file(fd, item, stored, blobs)
        self.stamps[item.path] = (Stamp.of(item.stat), entry, seen_ns)
        return entry

    def _file(self, fd: int, item: _Item, stored: Entry | None, blobs: IO[bytes] | None) -> Entry:
        with opened_file(item.name, fd) as file:
            id_, size = blob_id_of(file)
            if blobs is not None and (stored is None or stored.id != id_):
                blobs.write(b"blob\ndata %d\n" % size)
                copy(file, size, blobs)
                blobs.write(b"\n")
        return Entry("100755" if item.stat.st_mode & stat.S_IXUSR else "100644", id_)


def folders_of(paths: Mapping[str, Entry]) -> set[str]:
    """Return all folders above some paths, each with a slash at its end."""
    folders: set[str] = set()
    for path in paths:
        cut = path.rfind("/")
        while cut > 0 and path[: cut + 1] not in folders:
            folders.add(path[: cut + 1])
            cut = path.rfind("/", 0, cut)
    return folders


def _reason(name: str, path: str, found: os.stat_result) -> str:
    """Say why an entry is not stored; empty when it is."""
    kind = stat.S_IFMT(found.st_mode)
    if not can_be_held(name) or (name.lower() == ".gitmodules" and kind == stat.S_IFLNK):
        return "name"
    if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
        return "kind"
    return "depth" if path.count("/") > DEEPEST else ""
