"""Reading and writing in a foreign folder, with openat2 and without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phoenix.errors import PathRefused
from phoenix.sandbox import beneath
from phoenix.sandbox.beneath import read_beneath, write_beneath


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder beside a secret, once with each way of opening."""
    if request.param == "walk":
        monkeypatch.setattr(beneath.sys, "platform", "other")
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_what_is_written_is_read(root: Path) -> None:
    """Folders on the way are made, content is exact, and no temporary file stays."""
    write_beneath(root, "a/b/c", b"\0data")
    assert read_beneath(root, "./a//b/c") == b"\0data"
    assert [p.name for p in (root / "a/b").iterdir()] == ["c"]


def test_a_missing_file_is_none(root: Path) -> None:
    """A file, or a folder on the way to it, that is not there gives None."""
    assert read_beneath(root, "none") is None
    assert read_beneath(root, "none/none") is None


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "..", "../secret", "a/../../secret", "", ".", "a\0b", "a\nb"]
)
def test_paths_that_leave_are_refused(root: Path, path: str) -> None:
    """Absolute, climbing, empty and control-character paths are refused both ways."""
    with pytest.raises(PathRefused):
        read_beneath(root, path)
    with pytest.raises(PathRefused):
        write_beneath(root, path, b"x")
    assert (root.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("target", ["../secret", "inside", "/proc/self/cwd/pyproject.toml", "missing"])
def test_links_are_never_followed(root: Path, target: str) -> None:
    """A link is refused wherever it points, at the end of a path and in its middle."""
    (root / "inside").mkdir()
    (root / "link").symlink_to(target)
    for path in ("link", "link/secret"):
        with pytest.raises(PathRefused):
            read_beneath(root, path)
        with pytest.raises(PathRefused):
            write_beneath(root, path, b"x")
    assert (root.parent / "secret").read_text() == "secret"


def test_a_fifo_is_refused_at_once(root: Path) -> None:
    """A FIFO neither blocks nor is written to."""
    os.mkfifo(root / "pipe")
    with pytest.raises(PathRefused):
        read_beneath(root, "pipe")
    with pytest.raises(PathRefused):
        write_beneath(root, "pipe", b"x")


def test_a_device_and_a_folder_are_refused(root: Path) -> None:
    """Only regular files are read."""
    (root / "folder").mkdir()
    with pytest.raises(PathRefused):
        read_beneath(root, "folder")
    if os.geteuid() == 0:
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        with pytest.raises(PathRefused):
            read_beneath(root, "null")


def test_a_hard_link_is_not_read_and_writing_leaves_the_other_name_alone(root: Path) -> None:
    """A second name of an outside file gives nothing away, and an upload replaces only the name."""
    os.link(root.parent / "secret", root / "link")
    with pytest.raises(PathRefused):
        read_beneath(root, "link")
    write_beneath(root, "link", b"new")
    assert (root.parent / "secret").read_text() == "secret"
    assert read_beneath(root, "link") == b"new"


def test_a_file_too_large_is_refused(root: Path) -> None:
    """At most so many bytes are read, and sparse files do not fill the memory."""
    write_beneath(root, "file", b"12345")
    assert read_beneath(root, "file", 5) == b"12345"
    with pytest.raises(PathRefused):
        read_beneath(root, "file", 4)
    with (root / "huge").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(PathRefused):
        read_beneath(root, "huge", 1000)


def test_modes_are_kept_but_never_set_id_bits(root: Path) -> None:
    """An executable stays one; set-user-id does not survive a rewrite."""
    write_beneath(root, "tool", b"one")
    (root / "tool").chmod(0o4755)
    write_beneath(root, "tool", b"two")
    assert (root / "tool").stat().st_mode & 0o7777 == 0o755


def test_names_are_composed(root: Path) -> None:
    """Both spellings of an accented name are one file."""
    write_beneath(root, "e\u0301", b"x")
    assert read_beneath(root, "\u00e9") == b"x"
    with pytest.raises(PathRefused):
        read_beneath(root, "\ud800")
    with pytest.raises(PathRefused):
        write_beneath(root, "x" * 300, b"x")


def test_a_missing_root_is_refused(root: Path) -> None:
    """A workspace that is gone is said so."""
    with pytest.raises(PathRefused):
        read_beneath(root / "none", "x")
