"""Several processes on one project: at once, frozen, superseded, and on another machine."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from phoenix.errors import WorkspaceBusy
from phoenix.workspace import GitWorkspace
from phoenix.workspace.locks import locked
from phoenix.workspace.places import is_before, scope_of
from tests.unit.workspace.conftest import RunGit

RUN = uuid4()
FIRST, SECOND = scope_of(RUN, 1), scope_of(RUN, 2)

WRITER = """
import asyncio, sys
from pathlib import Path
from phoenix.errors import PhoenixError
from phoenix.workspace import GitWorkspace

FOR_EVER = "10000"

async def main(root, scope, text, rounds):
    workspace = GitWorkspace(Path(root), "demo", scope=scope)
    base = await workspace.prepare(None)
    for n in range(int(rounds)):
        try:
            await work(workspace, base, text, n)
        except (OSError, PhoenixError):
            # A zombie finds its folder gone, and goes on all the same.
            if rounds != FOR_EVER:
                raise

async def work(workspace, base, text, n):
    tree = await workspace.worktree("T1", base)
    for k in range(10):
        (tree.path / f"{k}").write_text(f"{text} {n} {k}")
    print(await tree.snapshot(), flush=True)
    commit = await workspace.commit("T1", message=f"{text} {n}", parents=[base])
    await workspace.merge(base, commit, message="Merge")
    await workspace.branch(f"phoenix/{text}", commit)

asyncio.run(main(*sys.argv[1:]))
"""
HOLDER = """
import sys, time
from pathlib import Path
from phoenix.workspace.locks import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def running(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", script, *args], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next commit or word that a process prints; it logs between them."""
    assert process.stdout is not None
    while (line := process.stdout.readline()) and " " in line.strip():
        continue
    return line.strip()


def freeze(process: subprocess.Popen[str], lock: Path) -> None:
    """Stop a process at a moment when it does not hold a lock."""
    for _ in range(200):
        os.kill(process.pid, signal.SIGSTOP)
        try:
            with locked(lock, timeout_seconds=0.5):
                return
        except WorkspaceBusy:
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.01)
    raise AssertionError("it always holds the lock")


def ids_of(out: str) -> list[str]:
    """Return the commits that a process has printed."""
    return [line for line in out.splitlines() if len(line) == 40]


def files_of(folder: Path) -> dict[str, str]:
    """Return a folder's files."""
    return {path.name: path.read_text() for path in folder.iterdir()}


async def test_two_processes_work_on_one_repository_at_once(workspace: GitWorkspace, git: RunGit) -> None:
    """Every snapshot that either reported is whole, and so is the repository."""
    base = await workspace.prepare(None)
    root = str(workspace.repository.parent)
    with running(WRITER, root, FIRST, "one", "12") as one, running(WRITER, root, "", "two", "12") as two:
        said = await asyncio.gather(*(asyncio.to_thread(p.communicate) for p in (one, two)))
        assert (one.returncode, two.returncode) == (0, 0)
    for text, (out, _) in zip(("one", "two"), said, strict=True):
        ids = ids_of(out)
        assert len(ids) == 12
        for n, commit in enumerate(ids):
            assert await workspace.contents(commit) == {f"{k}": f"{text} {n} {k}".encode() for k in range(10)}
        assert len(await workspace.log(base, git(workspace.repository, "rev-parse", f"phoenix/{text}"))) == 1
    assert git(workspace.repository, "fsck", "--full", "--strict") == ""


async def test_two_processes_share_one_worktree_without_mixing(workspace: GitWorkspace, git: RunGit) -> None:
    """Snapshots and restores of one folder take turns; no object is torn."""
    await workspace.prepare(None)
    root = str(workspace.repository.parent)
    with running(WRITER, root, "", "one", "6") as one, running(WRITER, root, "", "two", "6") as two:
        said = await asyncio.gather(*(asyncio.to_thread(p.communicate) for p in (one, two)))
    for commit in [commit for out, _ in said for commit in ids_of(out)]:
        assert len(await workspace.contents(commit)) == 10
    assert git(workspace.repository, "fsck", "--full", "--strict") == ""


def test_a_frozen_holder_is_waited_for_in_bounded_time(tmp_path: Path) -> None:
    """The wait ends with an error that says to try again; killed, the holder lets go at once."""
    path = tmp_path / "locks" / "repository"
    with running(HOLDER, str(path)) as holder:
        assert line_of(holder) == "held"
        os.kill(holder.pid, signal.SIGSTOP)
        with (
            pytest.raises(WorkspaceBusy, match="does not let go") as caught,
            locked(path, timeout_seconds=0.2),
        ):
            pass
        assert caught.value.category == "transient"
        holder.kill()
        began = time.monotonic()
        with locked(path, timeout_seconds=30):
            assert time.monotonic() - began < 30


async def test_a_woken_zombie_writes_into_its_own_folder(workspace: GitWorkspace, git: RunGit) -> None:
    """A superseded attempt that goes on changes no file, commit or worktree of the new one."""
    base = await workspace.prepare(None)
    root = workspace.repository.parent
    with running(WRITER, str(root), FIRST, "old", "10000") as zombie:
        pinned = line_of(zombie)
        await asyncio.to_thread(freeze, zombie, root / "private" / "locks" / "repository")
        second = GitWorkspace(root, "demo", scope=SECOND)
        tree = await second.worktree("T1", base)
        assert files_of(tree.path) == {}
        await tree.restore(pinned)
        before = files_of(tree.path)
        (tree.path / "new").write_text("new")
        commit = await tree.snapshot()
        os.kill(zombie.pid, signal.SIGCONT)
        zombie_went_on = [line_of(zombie) for _ in range(3)]
    assert files_of(tree.path) == before | {"new": "new"}
    assert await tree.snapshot() == commit
    assert await tree.current() == commit
    assert await GitWorkspace(root, "x", scope=SECOND).contents(commit) == {
        name: text.encode() for name, text in (before | {"new": "new"}).items()
    }
    assert all(zombie_went_on)
    assert git(workspace.repository, "fsck", "--full", "--strict") == ""


async def test_an_attempt_removes_the_folders_of_those_before_it_only(workspace: GitWorkspace) -> None:
    """A zombie that opens a worktree takes nothing from its successor, and other runs keep theirs."""
    base = await workspace.prepare(None)
    root = workspace.repository.parent
    other = scope_of(uuid4(), 1)
    opened = {
        scope: (await GitWorkspace(root, "demo", scope=scope).worktree("T1", base)).path
        for scope in (FIRST, other, SECOND)
    }
    assert [opened[scope].exists() for scope in (FIRST, other, SECOND)] == [False, True, True]
    woken = await GitWorkspace(root, "demo", scope=FIRST).worktree("T2", base)
    assert woken.path.exists()
    assert opened[SECOND].exists()


async def test_another_machine_makes_the_worktree_anew_from_the_pinned_commit(
    workspace: GitWorkspace, tmp_path: Path
) -> None:
    """With the repository on a shared folder, worktrees may lie on each machine's own disk."""
    base = await workspace.prepare(None)
    root = workspace.repository.parent
    there = GitWorkspace(root, "demo", scope=FIRST, local=tmp_path / "a")
    tree = await there.worktree("T1", base)
    (tree.path / "app.py").write_text("half done\n")
    pinned = await tree.snapshot()
    here = GitWorkspace(root, "demo", scope=SECOND, local=tmp_path / "b")
    again = await here.worktree("T1", base)
    await again.restore(pinned)
    assert again.path.is_relative_to(tmp_path / "b")
    assert files_of(again.path) == {"app.py": "half done\n"}
    (again.path / "more").write_text("1")
    assert await again.changed(base) == ["app.py", "more"]


def test_scopes_are_ordered_within_a_run() -> None:
    """Attempt 10 comes after attempt 9; another run is neither before nor after."""
    assert is_before(scope_of(RUN, 9), scope_of(RUN, 10))
    assert not is_before(scope_of(RUN, 10), scope_of(RUN, 9))
    assert not is_before(FIRST, FIRST)
    assert not is_before(scope_of(uuid4(), 1), SECOND)
    assert not is_before("T1", SECOND)
