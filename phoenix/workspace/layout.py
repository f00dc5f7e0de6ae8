"""Make a folder hold exactly what a tree does."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from phoenix.workspace.folder import Stamp, blob_id, blob_id_of, opened, opened_file, permit
from phoenix.workspace.git import Git
from phoenix.workspace.scan import DEEPEST, Memory, folders_of
from phoenix.workspace.tree import Entry, read_blobs

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def lay_out(git: Git, folder: Path, entries: Mapping[str, Entry], memory: Memory, trash: Path) -> None:
    """Bring a folder to some entries, whatever is in it now. May be cut short anywhere and repeated.

    Files that are right already are kept. A folder that cannot be cleaned goes to the trash whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Stamp | None] = {}
    try:
        kept = _clean(folder, entries, memory)
    except (OSError, RecursionError, _TooDeep):
        discard(folder, trash)
        folder.mkdir()
    missing = {path: entry for path, entry in entries.items() if path not in kept}
    written = _write(git, folder, missing)
    # Nothing else writes here meanwhile, so all of it counts as seen now.
    seen_ns = time.time_ns()
    memory.stamps = {
        path: (stamp, entries[path], seen_ns) for path, stamp in {**kept, **written}.items() if stamp
    }


def discard(folder: Path, trash: Path) -> None:
    """Move a folder away at once; delete it as far as possible."""
    trash.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.exists():
        folder.rename(trash / uuid.uuid4().hex)
    # Both follow no links and have no limit of depth; what they leave, another call tries again.
    for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        subprocess.run([*command, "--", *trash.iterdir()], capture_output=True, check=False, timeout=600)


def discard_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, and what is left of an earlier call for it. Idempotent."""
    trash = folder.with_name(f"{folder.name}.trash")
    if folder.exists() or trash.exists():
        discard(folder, trash)
        shutil.rmtree(trash, ignore_errors=True)


class _TooDeep(Exception):
    """Folders lie deeper than any snapshot has them."""


def _clean(folder: Path, entries: Mapping[str, Entry], memory: Memory) -> dict[str, Stamp | None]:
    """Remove what does not belong; return what may stay."""
    kept: dict[str, Stamp | None] = {}
    folders = folders_of(entries)

    def visit(fd: int, prefix: str) -> None:
        if prefix.count("/") > DEEPEST:
            raise _TooDeep
        with os.scandir(fd) as listing:
            found = [(each.name, each.stat(follow_symlinks=False)) for each in listing]
        for name, info in found:
            path = prefix + name
            entry = entries.get(path)
            if stat.S_ISDIR(info.st_mode):
                is_submodule = entry is not None and entry.mode == "160000"
                if f"{path}/" not in folders and not is_submodule:
                    _remove_folder(name, fd)
                    continue
                if info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) != 0o755:
                    permit(name, fd, 0o755)
                with opened(name, fd) as inner:
                    visit(inner, f"{path}/")
                if is_submodule:
                    kept[path] = None
            elif entry is not None and _same(fd, name, info, entry, memory.recall(path, info)):
                kept[path] = Stamp.of(info)
            else:
                os.unlink(name, dir_fd=fd)

    permit(folder, None, 0o755)
    with opened(folder) as fd:
        visit(fd, "")
    return kept


def _remove_folder(name: str, parent: int) -> None:
    try:
        shutil.rmtree(name, dir_fd=parent)
    except PermissionError:
        _permit_all(name, parent)
        shutil.rmtree(name, dir_fd=parent)


def _permit_all(name: str, parent: int) -> None:
    permit(name, parent, 0o700)
    with opened(name, parent) as fd:
        with os.scandir(fd) as listing:
            folders = [each.name for each in listing if each.is_dir(follow_symlinks=False)]
        for each in folders:
            _permit_all(each, fd)


def _same(fd: int, name: str, info: os.stat_result, entry: Entry, recalled: Entry | None) -> bool:
    if stat.S_ISLNK(info.st_mode):
        return entry == ("120000", blob_id(os.fsencode(os.readlink(name, dir_fd=fd))))
    mode = {"100644": 0o644, "100755": 0o755}.get(entry.mode)
    plain = stat.S_ISREG(info.st_mode) and info.st_nlink == 1 and info.st_uid == os.geteuid()
    if not plain or stat.S_IMODE(info.st_mode) != mode:
        return False
    if recalled is not None:
        return recalled == entry
    with opened_file(name, fd) as file:
        return blob_id_of(file)[0] == entry.id


def _write(git: Git, folder: Path, entries: Mapping[str, Entry]) -> dict[str, Stamp | None]:
    written: dict[str, Stamp | None] = {}
    order = sorted(path for path, entry in entries.items() if entry.mode != "160000")
    contents = read_blobs(git, [entries[path].id for path in order])
    with opened(folder) as top:
        for path in (path for path, entry in entries.items() if entry.mode == "160000"):
            with _made(top, path):
                written[path] = None
        for path, (_, data) in zip(order, contents, strict=True):
            above, _, name = path.rpartition("/")
            with _made(top, above) as fd:
                written[path] = _put(fd, name, entries[path], data)
    return written


@contextmanager
def _made(top: int, path: str) -> Iterator[int]:
    """Open a folder below another, made where it is missing, through no link."""
    fd = os.dup(top)
    try:
        for part in path.split("/") if path else ():
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=fd)
                permit(part, fd, 0o755)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _put(fd: int, name: str, entry: Entry, data: bytes) -> Stamp:
    if entry.mode == "120000":
        os.symlink(os.fsdecode(data), name, dir_fd=fd)
    else:
        with os.fdopen(os.open(name, _CREATE, 0o600, dir_fd=fd), "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o755 if entry.mode == "100755" else 0o644)
    return Stamp.of(os.stat(name, dir_fd=fd, follow_symlinks=False))
