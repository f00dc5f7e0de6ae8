"""Kills, stale locks, full disks, odd permissions and old gits."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix.errors import DiskFull, GitFailed, WorkspaceError
from phoenix.workspace import GitWorkspace
from phoenix.workspace.git import check_version, failure, readable
from phoenix.workspace.locks import locked

RunGit = Callable[..., str]

SCRIPT = """
import asyncio, sys
from pathlib import Path
from phoenix.workspace import GitWorkspace

async def main(root, mode, *args):
    workspace = GitWorkspace(Path(root), "demo")
    if mode == "prepare":
        print("ready", flush=True)
        print(await workspace.prepare(args[0]), flush=True)
        return
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    print("ready", flush=True)
    for n in range(10_000):
        if mode == "restore":
            await tree.restore(args[n % 2])
        else:
            for k in range(20):
                (tree.path / f"{k}").write_text(f"{args[0]} {n} {k}")
            print(await tree.snapshot(), flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def killed(*args: str, after_seconds: float, after_lines: int = 0) -> list[str]:
    """Start a process, kill it some time after it printed lines, and return those it printed whole."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *args], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    first = "".join(process.stdout.readline() for _ in range(after_lines))
    time.sleep(after_seconds)
    process.kill()
    out = first + process.stdout.read()
    process.wait()
    process.stdout.close()
    return [line for line in out.splitlines() if len(line) == 40]


async def test_a_kill_during_snapshots_loses_none(workspace: GitWorkspace) -> None:
    """Every snapshot that was reported can be restored, and work goes on."""
    base = await workspace.prepare(None)
    for n in range(3):
        args = (str(workspace.repository.parent), "snapshot", str(n))
        ids = await asyncio.to_thread(killed, *args, after_lines=2, after_seconds=random.uniform(0, 0.1))
        tree = await GitWorkspace(workspace.repository.parent, "demo").worktree("T1", base)
        await tree.restore(ids[-1])
        assert (tree.path / "7").read_text() == f"{n} {len(ids) - 1} 7"
        assert await tree.snapshot() == ids[-1]


async def test_a_kill_during_a_restore_is_mended_by_the_next(workspace: GitWorkspace) -> None:
    """Half a restored folder becomes exactly the commit."""
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    commits = []
    for n in range(2):
        for k in range(200):
            path = tree.path / f"d{n}" / f"{k}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{n} {k}" * 100)
        shutil.rmtree(tree.path / f"d{1 - n}", ignore_errors=True)
        commits.append(await tree.snapshot())
    for _ in range(3):
        args = (str(workspace.repository.parent), "restore", *commits)
        await asyncio.to_thread(killed, *args, after_seconds=random.uniform(0.01, 0.2))
        assert await tree.current() is None
        await tree.restore(commits[0])
        assert await GitWorkspace(workspace.repository.parent, "x").contents(commits[0]) == {
            str(path.relative_to(tree.path)): path.read_bytes()
            for path in tree.path.rglob("*")
            if path.is_file()
        }
        assert await tree.snapshot() == commits[0]


async def test_a_kill_during_prepare_is_completed(
    workspace: GitWorkspace, git: RunGit, tmp_path: Path
) -> None:
    """There is either no repository or a whole one, and no litter after the next call."""
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    for k in range(60):
        (source / f"{k}").write_text(f"{k}" * 1000)
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "x")
    head = git(source, "rev-parse", "HEAD")
    root = workspace.repository.parent
    for wait in (0.005, 0.02):
        await asyncio.to_thread(killed, str(root), "prepare", str(source), after_seconds=wait)
        assert await workspace.prepare(str(source)) == head
        shutil.rmtree(workspace.repository)
    (root / "repository.git.left").mkdir()
    while [path.name for path in root.glob("repository.git*")] != ["repository.git"]:
        assert await workspace.prepare(str(source)) == head


async def test_locks_of_the_dead_do_not_hinder(workspace: GitWorkspace, tmp_path: Path) -> None:
    """git's lock files left by a kill are cleared; nobody alive can hold them."""
    ids = []
    for place in (GitWorkspace(tmp_path / "other", "other"), workspace):
        tree = await place.worktree("T1", await place.prepare(None))
        (tree.path / "a").write_text("1")
        if place is workspace:
            refs = workspace.repository / "refs"
            (refs / "phoenix/snapshots/T1").mkdir(parents=True)
            (refs / f"phoenix/snapshots/T1/{ids[0]}.lock").touch()
            (refs / "heads/done.lock").touch()
            (workspace.repository / "packed-refs.lock").touch()
        ids.append(await tree.snapshot())
    assert ids[0] == ids[1]
    (workspace.repository / "refs/heads/done.lock").touch()
    await workspace.branch("done", ids[0])
    (workspace.repository / "packed-refs.lock").touch()
    await workspace.remove("T1")


def test_a_lock_that_is_never_let_go_is_an_error(tmp_path: Path) -> None:
    """A frozen holder does not freeze the others."""
    with locked(tmp_path / "l"), pytest.raises(WorkspaceError), locked(tmp_path / "l", timeout_seconds=0.05):
        pass
    with locked(tmp_path / "l", timeout_seconds=0):
        pass


async def test_a_cancelled_snapshot_does_not_overlap_the_next_work(workspace: GitWorkspace) -> None:
    """The thread of a cancelled call ends before the folder is touched again."""
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    (tree.path / "a").write_text("1")
    commit = await tree.snapshot()
    for _ in range(5):
        (tree.path / "a").write_text("2")
        running = asyncio.create_task(tree.snapshot())
        await asyncio.sleep(0.002)
        running.cancel()
        await tree.restore(commit)
        assert await tree.current() == commit
        assert (tree.path / "a").read_text() == "1"


async def test_very_deep_folders_do_not_hinder(workspace: GitWorkspace) -> None:
    """Folders deeper than any program needs are left out and removed."""
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    (tree.path / "a").write_text("1")
    fd = os.open(tree.path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    commit = await tree.snapshot()
    await tree.restore(commit)
    assert [path.name for path in tree.path.iterdir()] == ["a"]


UNPRIVILEGED = """
import asyncio, os, sys
from pathlib import Path
from phoenix.workspace import GitWorkspace

async def main(root):
    workspace = GitWorkspace(Path(root), "demo")
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    for name in ("a", "shut/b", "read/c"):
        (tree.path / name).parent.mkdir(exist_ok=True)
        (tree.path / name).write_text(name)
    commit = await tree.snapshot()
    (tree.path / "extra/deep").mkdir(parents=True)
    (tree.path / "extra/deep/x").touch()
    for name in ("a", "shut", "extra/deep", "extra"):
        (tree.path / name).chmod(0)
    (tree.path / "read").chmod(0o555)
    tree.path.chmod(0o555)
    await tree.restore(commit)
    assert await tree.files() == ["a", "read/c", "shut/b"], await tree.files()
    assert not (tree.path / "extra").exists()
    (tree.path / "a").chmod(0)
    (tree.path / "shut").chmod(0)
    assert await tree.snapshot() == commit
    print("done")

asyncio.run(main(sys.argv[1]))
"""


def lines(*command: str) -> list[str]:
    """Run a command; return what it printed, without log lines."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if "workspace_" not in line]


@pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("bwrap") is None, reason="root needs bubblewrap for it"
)
def test_closed_files_and_folders_do_not_hinder(tmp_path: Path) -> None:
    """What a tool locked away from its own user is read, and restored, all the same."""
    drop = ("bwrap", "--dev-bind", "/", "/", "--cap-drop", "ALL") if os.geteuid() == 0 else ()
    assert lines(*drop, sys.executable, "-c", UNPRIVILEGED, str(tmp_path / "project")) == ["done"]


FULL = """
import asyncio, os, sys
from pathlib import Path
from phoenix.errors import DiskFull
from phoenix.workspace import GitWorkspace

async def main(root):
    workspace = GitWorkspace(Path(root) / "project", "demo")
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    (tree.path / "a").write_bytes(os.urandom(1_500_000))
    commit = await tree.snapshot()
    filler = Path(root) / "filler"
    for mode in ("snapshot", "restore"):
        (tree.path / "a").write_bytes(b"")
        (tree.path / "b").write_bytes(os.urandom(500_000))
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        try:
            await (tree.snapshot() if mode == "snapshot" else tree.restore(commit))
        except DiskFull as error:
            print(error.hint)
        filler.unlink()
    await tree.restore(commit)
    assert await tree.snapshot() == commit
    print("recovered")

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap for a small disk")
def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """Snapshot and restore say that the disk is full; with space again they work."""
    small = ["bwrap", "--dev-bind", "/", "/", "--size", "9000000", "--tmpfs", str(tmp_path)]
    said = lines(*small, sys.executable, "-c", FULL, str(tmp_path))
    assert said == ["Free some space, then resume."] * 2 + ["recovered"]


def test_an_old_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the version that is needed; so it does when there is none."""
    old = tmp_path / "git"
    old.write_text("#!/bin/sh\necho git version 2.30.9\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.defpath", "")
    with pytest.raises(GitFailed, match=r"2\.30\.9 is too old.*2\.38"):
        check_version.__wrapped__()
    old.unlink()
    with pytest.raises(GitFailed, match="no git"):
        check_version.__wrapped__()


def test_what_git_says_is_harmless_to_show() -> None:
    """Errors carry git's last line: on one line, escaped, without passwords."""
    error = failure("fetch", b"noise\nfatal: \x1b[31m'https://me:pw@host/x'\x07 no\n\n")
    assert str(error) == "git fetch failed: fatal: \\x1b[31m'https://***@host/x'\\x07 no"
    assert isinstance(failure("x", b"fatal: write error: No space left on device\n"), DiskFull)
    assert len(readable(b"x" * 1000)) == 300
