"""Files as a stream from one folder to another: all of them, only changes, and never outside."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix.sandbox.pod_files import apply, changes, pack, scan


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return a folder with one of everything."""
    folder = tmp_path / "here"
    (folder / "a" / "empty").mkdir(parents=True)
    (folder / "a" / "file").write_bytes(bytes(range(256)) * 5000)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("../outside")
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"odd-\xff")).write_text("not UTF-8")
    (folder / ("deep-" + "x" * 200)).write_text("a long name")
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Return an empty folder."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


def sent(here: Path, there: Path, before: dict[str, list[object]] | None = None) -> list[str]:
    """Bring a folder up to date with another; return the paths that were sent."""
    gone, new = changes(before or {}, scan(str(here)))
    stream = io.BytesIO()
    pack(str(here), new, stream)
    stream.seek(0)
    apply(str(there), gone, stream)
    return new


def shape(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content of everything below a folder."""
    found = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content = b""
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(mode):
            content = os.fsencode(path.readlink())
        found[str(path.relative_to(folder))] = (mode, content)
    return found


def test_everything_arrives_as_it_was(here: Path, there: Path) -> None:
    """Content, modes, links as links, FIFOs, empty folders, long names and names that are no text."""
    sent(here, there)
    assert shape(there) == shape(here)
    assert sent(here, there, scan(str(here))) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda f: (f / "run.sh").write_text("#!/bin/sh\nexit\n"),
        lambda f: (f / "run.sh").chmod(0o644),
        lambda f: (f / "run.sh").unlink(),
        lambda f: ((f / "run.sh").unlink(), (f / "run.sh").mkdir(), (f / "run.sh" / "x").touch()),
        lambda f: ((f / "a" / "empty").rmdir(), (f / "a" / "empty").write_text("file now")),
        lambda f: ((f / "link").unlink(), (f / "link").symlink_to("elsewhere")),
        lambda f: ((f / "a" / "file").unlink(), (f / "a" / "empty").rmdir(), (f / "a").rmdir()),
        lambda f: (f / "a").rename(f / "b"),
    ],
)
def test_only_what_changed_is_sent(here: Path, there: Path, change: Callable[[Path], object]) -> None:
    """Whatever becomes of a path, the other folder follows, and nothing else is written."""
    sent(here, there)
    before = scan(str(here))
    change(here)
    new = sent(here, there, before)
    assert shape(there) == shape(here)
    assert len(new) <= 3


def packed(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """Return a stream with members of one's own making: name, type, target of a link."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, target, 0o644
            tar.addfile(member)
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", tarfile.REGTYPE, "")],
        [("a/../../escaped", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, ".."), ("link/escaped", tarfile.REGTYPE, "")],
        [("link", tarfile.SYMTYPE, "../outside"), ("link/escaped", tarfile.DIRTYPE, "")],
    ],
)
def test_nothing_is_written_outside(there: Path, members: list[tuple[str, bytes, str]]) -> None:
    """Names that climb, and links that were sent before, lead nowhere."""
    (there.parent / "outside").mkdir()
    with pytest.raises(OSError):
        apply(str(there), [], packed(*members))
    assert not (there.parent / "escaped").exists()
    assert not (there.parent / "outside" / "escaped").exists()


def test_nothing_is_taken_away_outside(there: Path) -> None:
    """A path that went is looked for in the folder only, and a link there is not followed."""
    outside = there.parent / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (there / "link").symlink_to(outside)
    with pytest.raises(OSError):
        apply(str(there), ["../outside/kept"], packed())
    apply(str(there), ["link/kept", "link"], packed())
    assert (outside / "kept").read_text() == "kept"
    assert not (there / "link").is_symlink()


def test_a_written_link_is_replaced_not_followed(there: Path) -> None:
    """A file that comes where a link was is a file of its own."""
    outside = there.parent / "outside"
    outside.write_text("kept")
    (there / "file").symlink_to(outside)
    apply(str(there), [], packed(("file", tarfile.REGTYPE, "")))
    assert outside.read_text() == "kept"
    assert not (there / "file").is_symlink()
