"""A project's own copy of another's repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

from phoenix.workspace.copying import ProjectRepositories
from phoenix.workspace.repository import GitWorkspace


def refs(repository: Path) -> set[str]:
    """Return the refs of a repository, each with its commit."""
    command = ["git", f"--git-dir={repository}", "for-each-ref", "--format=%(objectname) %(refname)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


async def test_a_copy_has_every_commit_and_outlives_the_other(tmp_path: Path) -> None:
    """Snapshots too; what is done in one is not seen in the other."""
    one, two = uuid4(), uuid4()
    source = GitWorkspace(tmp_path / str(one), "one")
    base = await source.prepare(None)
    tree = await source.worktree("work", base)
    (tree.path / "a.txt").write_text("a")
    snapshot = await tree.snapshot()
    commit = await source.commit("work", message="A", parents=[base])
    await source.branch("phoenix/delivered", commit)
    before = refs(source.repository)

    repositories = ProjectRepositories(tmp_path)
    await repositories.copy(one, two)
    await repositories.copy(one, two)
    assert refs(source.repository) == before
    copy = GitWorkspace(tmp_path / str(two), "two")
    assert await copy.prepare("/nowhere") == base
    left = {ref for ref in before if "worktrees/" not in ref and "heads/phoenix/" not in ref}
    assert refs(copy.repository) == left
    files = [path for path in (copy.repository / "objects").rglob("*") if path.is_file()]
    assert files
    assert all(path.stat().st_nlink > 1 for path in files)

    shutil.rmtree(source.repository)
    assert await copy.read(snapshot, "a.txt") == b"a"
    assert await copy.tree(commit) == await copy.tree(snapshot)
    again = await copy.worktree("work", commit)
    assert (again.path / "a.txt").read_text() == "a"
    await repositories.discard(two)
    await repositories.discard(two)
    assert not (tmp_path / str(two)).exists()


async def test_a_project_without_a_repository_is_copied_without(tmp_path: Path) -> None:
    """Nothing is made."""
    await ProjectRepositories(tmp_path).copy(uuid4(), uuid4())
    assert list(tmp_path.iterdir()) == []


async def test_there_is_no_tree_without_a_commit(tmp_path: Path) -> None:
    """A commit of another repository is none of this one."""
    workspace = GitWorkspace(tmp_path / "one", "one")
    await workspace.prepare(None)
    assert await workspace.tree("1" * 40) is None
