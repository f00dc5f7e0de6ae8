"""Files of a folder as a stream: what changed in it, and the same made in another folder.

Imports nothing of Phoenix: its text is also run as a script inside pods. No link is ever followed.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import sys
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

Manifest = dict[str, list[Any]]
"""What each path is: mode, size, times, inode. Two of one folder differ where something changed."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE}
_KINDS |= {stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE}
SAVED = "/tmp/phoenix-manifest.json"  # noqa: S108 - inside a container that runs nothing else


def scan(root: str) -> Manifest:
    """Return all files, folders, links and FIFOs below a folder."""
    found: Manifest = {}
    waiting = [""]
    while waiting:
        at = waiting.pop()
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(os.path.join(root, at)) as entries:  # noqa: PTH118
            for entry in entries:
                path = f"{at}/{entry.name}" if at else entry.name
                seen = _seen(entry)
                if seen:
                    found[path] = seen
                if seen and stat.S_ISDIR(seen[0]):
                    waiting.append(path)
    return found


def _seen(entry: os.DirEntry[str]) -> list[Any]:
    """Return what an entry is; nothing when it went meanwhile, or is of a kind that stays where it is."""
    try:
        seen = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return []
    if stat.S_IFMT(seen.st_mode) not in _KINDS:
        return []
    if stat.S_ISDIR(seen.st_mode):
        return [seen.st_mode]  # its times change with what is in it, which is listed itself
    return [seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino]


def changes(before: Manifest, after: Manifest) -> tuple[list[str], list[str]]:
    """Return the paths that went, and those that are new or different, parents first."""
    gone = [path for path in before if path not in after]
    return sorted(gone, reverse=True), sorted(p for p, seen in after.items() if before.get(p) != seen)


def pack(root: str, paths: Iterable[str], out: IO[bytes]) -> None:
    """Write paths of a folder as a tar stream; one that went meanwhile is left out."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _add(tar, os.path.join(root, path), path)  # noqa: PTH118 - names may be no text


def _add(tar: tarfile.TarFile, full: str, path: str) -> None:
    seen = os.lstat(full)
    member = tarfile.TarInfo(path)
    member.type = _KINDS.get(stat.S_IFMT(seen.st_mode), b"")
    member.mode, member.mtime = stat.S_IMODE(seen.st_mode), int(seen.st_mtime)
    if member.type == tarfile.SYMTYPE:
        member.linkname = os.readlink(full)  # noqa: PTH115
    if member.type != tarfile.REGTYPE:
        if member.type:
            tar.addfile(member)
        return
    handle = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        member.size = os.fstat(handle).st_size
        tar.addfile(member, _Exactly(file, member.size))  # type: ignore[arg-type]


class _Exactly:
    """A file of a known size, whatever becomes of it while it is read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        size = min(size, self._left)
        data = self._file.read(size)
        self._left -= size
        return data + b"\0" * (size - len(data))


def apply(root: str, gone: Iterable[str], packed: IO[bytes]) -> None:
    """Make a folder what another one is: take away what went, write what came.

    Raises:
        OSError, tarfile.TarError: the stream is broken, or something cannot be written.
    """
    top = os.open(root, _FOLDER)
    modes: list[tuple[str, int]] = []
    try:
        for path in gone:
            with suppress(FileNotFoundError, NotADirectoryError):
                parent, name = _parent(top, path)
                _remove(parent, name)
                os.close(parent)
        with tarfile.open(fileobj=packed, mode="r|", errors="surrogateescape") as tar:
            for member in tar:
                parent, name = _parent(top, member.name)
                try:
                    _write(tar, member, parent, name)
                finally:
                    os.close(parent)
                if member.isdir():
                    modes.append((member.name, member.mode))
        # Last, since nothing can be written into a folder without that permission.
        for path, mode in reversed(modes):
            parent, name = _parent(top, path)
            handle = os.open(name, _FOLDER, dir_fd=parent)
            os.fchmod(handle, mode & 0o777)
            os.close(handle)
            os.close(parent)
    finally:
        os.close(top)


def _parent(top: int, path: str) -> tuple[int, str]:
    """Open the folder that a path is in; no part of the way may be a link."""
    *folders, name = path.split("/")
    if path.startswith("/") or not name or any(part in {"", ".", ".."} for part in (*folders, name)):
        raise OSError(f"{path!r} leaves the folder")
    handle = os.dup(top)
    for folder in folders:
        try:
            below = os.open(folder, _FOLDER, dir_fd=handle)
        finally:
            os.close(handle)
        handle = below
    return handle, name


def _remove(parent: int, name: str) -> None:
    seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISDIR(seen.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if member.isdir() and stat.S_ISDIR(seen.st_mode):
            return
        _remove(parent, name)
    if member.isdir():
        os.mkdir(name, 0o755, dir_fd=parent)
    elif member.issym():
        os.symlink(member.linkname, name, dir_fd=parent)
    elif member.isfifo():
        os.mkfifo(name, member.mode & 0o777, dir_fd=parent)
    elif (source := tar.extractfile(member)) is not None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(source, file, 256 * 1024)
            file.flush()
            os.fchmod(file.fileno(), member.mode & 0o777)
            os.utime(file.fileno(), (member.mtime, member.mtime))


def serve(request: dict[str, Any], stdin: IO[bytes], stdout: IO[bytes]) -> None:
    """Take in changes of a folder, or answer with those made in it since. Runs in a pod."""
    root = request["root"]
    saved = Path(f"{SAVED}.{request['name']}")
    if request["do"] == "push":
        Path(root).mkdir(exist_ok=True)
        apply(root, request["gone"], stdin)
        saved.write_text(json.dumps(scan(root)))
        answer(stdout, {"done": True})
        return
    now = scan(root)
    gone, new = changes(json.loads(saved.read_text()), now)
    answer(stdout, {"gone": gone})
    pack(root, new, stdout)
    saved.write_text(json.dumps(now))


def answer(stdout: IO[bytes], value: dict[str, Any]) -> None:
    """Write what comes before the bytes of an answer."""
    data = json.dumps(value).encode()
    stdout.write(struct.pack(">I", len(data)) + data)


if __name__ == "__phoenix__":
    serve(json.loads(sys.stdin.buffer.readline()), sys.stdin.buffer, sys.stdout.buffer)
    sys.stdout.buffer.flush()
