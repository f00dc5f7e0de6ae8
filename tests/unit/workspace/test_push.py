"""Deliveries to remotes: once, never over others' commits, and no password on screens."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from phoenix.errors import GitFailed
from phoenix.workspace import GitWorkspace
from phoenix.workspace.push import push_target, shown
from tests.unit.workspace.conftest import RunGit

SSH = """#!/bin/sh
for last; do :; done
exec env -i PATH="$PATH" sh -c "$last"
"""
"""Stands in for ssh: it runs the command of the last argument on this machine."""


@pytest.fixture
def remote(tmp_path: Path, git: RunGit, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a bare remote with one commit that writes down what it receives, reached by ssh."""
    folder = tmp_path / "remote.git"
    source = tmp_path / "source"
    source.mkdir()
    git(source, "init", "-q")
    (source / "app.py").write_text("one\n")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "Start")
    git(tmp_path, "clone", "-q", "--bare", str(source), str(folder))
    hook = folder / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ncat >> {tmp_path}/received\n")
    hook.chmod(0o755)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    return folder


async def done(workspace: GitWorkspace, source: str, text: str = "two\n") -> str:
    """Make a branch to deliver, from a source, and return its commit."""
    base = await workspace.prepare(source)
    tree = await workspace.worktree("T1", base)
    await tree.restore(base)
    (tree.path / "app.py").write_text(text)
    commit = await workspace.commit("T1", message="Change", parents=[base])
    await workspace.branch("phoenix/x", commit)
    return commit


@pytest.mark.parametrize("form", ["ssh://git@localhost{0}", "git@localhost:{0}"])
async def test_a_remote_is_cloned_and_receives_the_branch_once(
    workspace: GitWorkspace, remote: Path, tmp_path: Path, git: RunGit, form: str
) -> None:
    """Pushed again, in turn or at once, nothing is received again."""
    address = form.format(remote)
    commit = await done(workspace, address)
    for _ in range(2):
        await workspace.publish(address, "phoenix/x")
    await asyncio.gather(*(workspace.publish(address, "phoenix/x") for _ in range(3)))
    assert git(remote, "rev-parse", "phoenix/x") == commit
    assert (tmp_path / "received").read_text() == f"{'0' * 40} {commit} refs/heads/phoenix/x\n"
    assert git(remote, "fsck", "--full") == ""


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "file://localhost{0}"])
async def test_a_local_remote_receives_the_branch_once_and_runs_no_hook(
    workspace: GitWorkspace, remote: Path, tmp_path: Path, git: RunGit, form: str
) -> None:
    """A path and a file URL are one thing; a repository on this machine is not asked."""
    address = form.format(remote)
    commit = await done(workspace, address)
    target = push_target(address)
    assert target == str(remote)
    await workspace.publish(target, "phoenix/x")
    ref = remote / "refs" / "heads" / "phoenix" / "x"
    before = ref.stat()
    await workspace.publish(target, "phoenix/x")
    assert (ref.stat().st_ino, ref.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert git(remote, "rev-parse", "phoenix/x") == commit
    assert not (tmp_path / "received").exists()


async def test_other_commits_of_a_remote_are_never_overwritten(
    workspace: GitWorkspace, remote: Path, tmp_path: Path, git: RunGit
) -> None:
    """Somebody else's branch of that name stays, and the error says where and what to do."""
    address = f"ssh://ada:secret@localhost{remote}"
    await done(workspace, address)
    other = git(remote, "commit-tree", "HEAD^{tree}", "-m", "Theirs")
    git(remote, "update-ref", "refs/heads/phoenix/x", other)
    with pytest.raises(GitFailed, match=r"not taken by ssh://\*\*\*@localhost") as caught:
        await workspace.publish(address, "phoenix/x")
    assert "secret" not in str(caught.value)
    assert "resume" in caught.value.hint
    assert git(remote, "rev-parse", "phoenix/x") == other


async def test_a_remote_that_is_gone_is_a_clear_failure(workspace: GitWorkspace, remote: Path) -> None:
    """The branch waits in the project's own repository."""
    address = f"ssh://git@localhost{remote}"
    commit = await done(workspace, address)
    remote.rename(remote.with_name("away"))
    with pytest.raises(GitFailed):
        await workspace.publish(address, "phoenix/x")
    remote.with_name("away").rename(remote)
    await workspace.publish(address, "phoenix/x")
    assert await workspace.read(commit, "app.py") == b"two\n"


@pytest.mark.parametrize(
    ("source", "pushed"),
    [
        (None, False),
        ("https://example.org/a.git", False),
        ("https://token@example.org/a.git", True),
        ("ssh://git@example.org/a.git", True),
        ("git@example.org:a.git", True),
        ("git://example.org/a.git", False),
        ("/nowhere", False),
    ],
)
def test_what_can_be_pushed_to(source: str | None, pushed: bool) -> None:
    """An anonymous https address is only read: git is given no credentials of the machine's user."""
    assert (push_target(source) is not None) is pushed


def test_a_bundle_is_only_read(tmp_path: Path, git: RunGit) -> None:
    """A file cannot receive a branch."""
    git(tmp_path, "init", "-q", "r")
    git(tmp_path / "r", "commit", "-q", "--allow-empty", "-m", "x")
    subprocess.run(
        ["git", "bundle", "create", "-q", str(tmp_path / "b"), "HEAD"], cwd=tmp_path / "r", check=True
    )
    assert push_target(str(tmp_path / "b")) is None


def test_credentials_are_not_shown() -> None:
    """Paths and addresses are shown as they are, but for what is before the @."""
    assert shown("https://token:x@example.org/a.git") == "https://***@example.org/a.git"
    assert shown("/home/ada/code") == "/home/ada/code"
    assert shown("git@example.org:a.git") == "git@example.org:a.git"
