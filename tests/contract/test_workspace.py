"""What every `Workspace` and `Worktree` does, shown on the git adapter."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix.errors import GitFailed, RepositoryUnreadable, WorkspaceError
from phoenix.ports import Workspace, Worktree
from phoenix.workspace import GitWorkspace

Write = Callable[[Path, dict[str, str]], None]


def git(folder: Path, *args: str) -> str:
    """Run the user's git with a fixed identity."""
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=trunk")
    done = subprocess.run(["git", *identity, *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def write(folder: Path, files: dict[str, str]) -> None:
    """Write text files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree_of(folder: Path) -> dict[str, str]:
    """Return the regular files below a folder."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_text() for path in found}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Make a small repository of somebody else's, with a commit that is older than Phoenix."""
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q")
    write(folder, {"app.py": "one\n", "docs/a.md": "a\n", ".gitignore": "build/\n", "build/kept.txt": "k\n"})
    git(folder, "add", "-f", ".")
    git(folder, "commit", "-q", "-m", "Start")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> GitWorkspace:
    """Return a project's workspace that is not prepared."""
    return GitWorkspace(tmp_path / "project", "demo")


@pytest.fixture
async def tree(workspace: GitWorkspace) -> Worktree:
    """Return a worktree of an empty project."""
    return await workspace.worktree("T1", await workspace.prepare(None))


def again(workspace: Workspace) -> GitWorkspace:
    """Return what another process would have of the same project."""
    return GitWorkspace(workspace.repository.parent, "demo")


async def test_an_empty_project_starts_from_the_same_commit_everywhere(tmp_path: Path) -> None:
    """The base of projects without a source is one deterministic commit."""
    bases = [await GitWorkspace(tmp_path / name, name).prepare(None) for name in ("a", "b")]
    assert bases[0] == bases[1]
    assert len(bases[0]) == 40


async def test_a_source_gives_its_head_as_the_base(workspace: GitWorkspace, source: Path) -> None:
    """A folder's HEAD is the base, whatever is not committed; a second call changes nothing."""
    (source / "app.py").write_text("not committed\n")
    head = git(source, "rev-parse", "HEAD")
    assert await workspace.prepare(str(source)) == head
    assert await again(workspace).prepare(str(source)) == head
    assert await workspace.read(head, "app.py") == b"one\n"


@pytest.mark.parametrize("kind", ["worktree", "detached", "bundle", "file-url", "bare", "packed", "shallow"])
async def test_every_kind_of_local_source_is_read(
    workspace: GitWorkspace, source: Path, tmp_path: Path, kind: str
) -> None:
    """Linked worktrees, detached heads, bundles, file URLs, bare, packed and shallow ones all work."""
    there = tmp_path / "there"
    address = str(there)
    match kind:
        case "worktree":
            git(source, "worktree", "add", "-q", address)
        case "detached":
            git(source, "checkout", "-q", "--detach")
            address = str(source)
        case "bundle":
            git(source, "bundle", "create", "-q", address, "trunk")
        case "file-url":
            address = f"file://{source}"
        case "bare":
            git(source, "clone", "-q", "--bare", ".", address)
        case "packed":
            git(source, "gc", "-q")
            address = str(source)
        case "shallow":
            git(source, "clone", "-q", "--depth=1", f"file://{source}", address)
    assert await workspace.prepare(address) == git(source, "rev-parse", "HEAD")


async def test_a_repository_without_commits_is_an_empty_project(
    workspace: GitWorkspace, tmp_path: Path
) -> None:
    """`git init` alone is a fine start."""
    folder = tmp_path / "fresh"
    folder.mkdir()
    git(folder, "init", "-q")
    assert await workspace.prepare(str(folder)) == await GitWorkspace(tmp_path / "b", "b").prepare(None)


@pytest.mark.parametrize(
    "source",
    [
        "nowhere",
        "/etc/passwd",
        "/etc",
        "",
        "a\0b",
        "a\ud800b",
        "x" * 5000,
        "ext::sh -c touch% /tmp/pwned",
        "fd::3",
        "git://localhost/x",
        "http://localhost/x",
        "file://elsewhere/x",
        "ssh://-oProxyCommand=touch/x",
        "--upload-pack=touch",
        "https://user:secret@localhost:1/x.git",
    ],
)
async def test_an_unreadable_source_says_so(workspace: GitWorkspace, source: str) -> None:
    """Every bad source is an input error with a hint, without passwords; a good one works after it."""
    with pytest.raises(RepositoryUnreadable) as caught:
        await workspace.prepare(source)
    assert caught.value.hint
    assert "secret" not in str(caught.value)
    assert await workspace.prepare(None)


async def test_the_same_content_gives_the_same_snapshot(tmp_path: Path) -> None:
    """Two machines that hold the same files have the same commit, whatever the message and the time."""
    ids = []
    for name in ("a", "b"):
        workspace = GitWorkspace(tmp_path / name, name)
        tree = await workspace.worktree("T1", await workspace.prepare(None))
        write(tree.path, {"x/y.py": "1\n", "z": "2\n"})
        ids.append(await tree.snapshot(f"of {name}"))
        assert await tree.snapshot() == ids[-1]
    assert ids[0] == ids[1]


async def test_a_snapshot_hangs_on_the_base_and_stays(workspace: GitWorkspace, tree: Worktree) -> None:
    """Its only parent is the worktree's base, and no garbage collection takes it."""
    base = await workspace.prepare(None)
    write(tree.path, {"a": "1"})
    await tree.snapshot()
    write(tree.path, {"a": "2"})
    second = await tree.snapshot()
    assert git(workspace.repository, "rev-parse", f"{second}^@") == base
    git(workspace.repository, "gc", "-q", "--prune=now")
    await tree.restore(second)
    assert tree_of(tree.path) == {"a": "2"}


async def test_a_change_of_the_same_size_at_once_is_seen(tree: Worktree) -> None:
    """A file rewritten within a tick of the clock, with its old times, is read again."""
    path = tree.path / "a"
    seen = set()
    for n in range(20):
        path.write_text(f"{n:02}")
        os.utime(path, ns=(1, 1))
        seen.add(await tree.snapshot())
    assert len(seen) == 20


async def test_restore_makes_the_folder_exactly_the_commit(tree: Worktree) -> None:
    """New, ignored, linked and odd things go; changed and deleted ones come back."""
    write(tree.path, {".gitignore": "*.log\n", "a/b": "1", "a/c": "2", "d": "3"})
    commit = await tree.snapshot()
    before = tree_of(tree.path)
    write(tree.path, {"x.log": "", "a/b": "changed", "new/e": "", "a/.git/HEAD": "ref: x", ".git/config": ""})
    (tree.path / "a" / "c").unlink()
    (tree.path / "d").unlink()
    write(tree.path, {"d/now/a/folder": ""})
    os.mkfifo(tree.path / "pipe")
    (tree.path / "link").symlink_to("/etc")
    await tree.restore(commit)
    assert tree_of(tree.path) == before
    assert sorted(p.name for p in tree.path.iterdir()) == [".gitignore", "a", "d"]
    assert await tree.snapshot() == commit


async def test_ignored_files_are_left_out_unless_the_base_has_them(
    workspace: GitWorkspace, source: Path
) -> None:
    """`.gitignore` files at any depth count, and tracked files stay tracked."""
    tree = await workspace.worktree("T1", await workspace.prepare(str(source)))
    write(
        tree.path,
        {"build/junk": "", "docs/.gitignore": "*.tmp\n!b.tmp\n", "docs/a.tmp": "", "docs/b.tmp": ""},
    )
    write(tree.path, {"lib/__pycache__/x.pyc": "", "build/kept.txt": "changed\n"})
    expected = [".gitignore", "app.py", "build/kept.txt", "docs/.gitignore", "docs/a.md", "docs/b.tmp"]
    assert await tree.files() == expected
    commit = await tree.snapshot()
    await tree.restore(commit)
    assert sorted(tree_of(tree.path)) == expected
    assert (tree.path / "build/kept.txt").read_text() == "changed\n"


async def test_nested_repositories_are_stored_as_files(tree: Worktree) -> None:
    """A repository that an agent makes inside becomes plain files; its history does not."""
    inner = tree.path / "vendor" / "lib"
    write(inner, {"code.py": "x\n"})
    git(inner, "init", "-q")
    git(inner, "add", ".")
    git(inner, "commit", "-q", "-m", "inner")
    assert await tree.files() == ["vendor/lib/code.py"]
    commit = await tree.snapshot()
    await tree.restore(commit)
    assert tree_of(tree.path) == {"vendor/lib/code.py": "x\n"}


async def test_names_modes_links_and_bytes_round_trip(workspace: GitWorkspace, tree: Worktree) -> None:
    """Newlines, quotes, accents in either form, line ends, links and executables come back as they were."""
    names = [
        "new\nline",
        'quo"te',
        "back\\slash",
        ":(top)x",
        "-n",
        " space ",
        "\u00e9",
        "e\u0301",
        "tab\t",
        "#a",
    ]
    for name in names:
        (tree.path / name).write_bytes(name.encode() + b"\r\n\x00\xff$Id$")
    write(
        tree.path, {".gitattributes": "* text eol=crlf ident working-tree-encoding=UTF-16\n", "run.sh": "x"}
    )
    (tree.path / "run.sh").chmod(0o755)
    (tree.path / "dangling").symlink_to("no/such/place")
    (tree.path / "empty").touch()
    commit = await tree.snapshot()
    for path in tree.path.iterdir():
        path.unlink()
    other = await again(workspace).worktree("T1", commit)
    await other.restore(commit)
    assert {p.name for p in tree.path.iterdir()} == {*names, ".gitattributes", "run.sh", "dangling", "empty"}
    for name in names:
        assert (tree.path / name).read_bytes() == name.encode() + b"\r\n\x00\xff$Id$"
    assert (tree.path / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tree.path / "dangling").readlink() == Path("no/such/place")


async def test_current_is_known_only_to_the_process_that_was_last(
    workspace: GitWorkspace, tree: Worktree
) -> None:
    """Another process, or one that was overtaken, has to restore first."""
    write(tree.path, {"a": "1"})
    commit = await tree.snapshot()
    assert await tree.current() == commit
    other = await again(workspace).worktree("T1", commit)
    assert await other.current() is None
    await other.restore(commit)
    assert await other.current() == commit
    assert await tree.current() is None


async def test_worktree_is_made_once(workspace: GitWorkspace, tree: Worktree) -> None:
    """Opening it again keeps what is in it; a lost folder comes back at its base."""
    write(tree.path, {"a": "1"})
    commit = await tree.snapshot()
    other = await again(workspace).worktree("T1", commit)
    assert tree_of(other.path) == {"a": "1"}
    subprocess.run(["rm", "-rf", str(tree.path)], check=True)
    assert tree_of((await again(workspace).worktree("T1", commit)).path) == {}


async def test_commits_last_and_are_deterministic(workspace: GitWorkspace, tree: Worktree) -> None:
    """A commit's id depends on content, message and parents only."""
    base = await workspace.prepare(None)
    write(tree.path, {"a": "1"})
    first = await workspace.commit("T1", message="Add a", parents=[base])
    assert await again(workspace).commit("T1", message="Add a", parents=[base]) == first
    assert await workspace.commit("T1", message="Other", parents=[base]) != first
    assert await workspace.log(base, first) == [(first, "Add a")]
    with pytest.raises(WorkspaceError):
        await workspace.commit("T2", message="", parents=[base])


async def diverged(workspace: GitWorkspace, ours: dict[str, str], theirs: dict[str, str]) -> tuple[str, str]:
    """Commit different files on two worktrees of the same base."""
    base = await workspace.prepare(None)
    ids = []
    for name, files in (("ours", ours), ("theirs", theirs)):
        tree = await workspace.worktree(name, base)
        write(tree.path, files)
        ids.append(await workspace.commit(name, message=f"Change {name}", parents=[base]))
    return ids[0], ids[1]


async def test_a_merge_needs_no_folder(workspace: GitWorkspace) -> None:
    """The merge commit has both parents, the same id each time; merging it again changes nothing."""
    ours, theirs = await diverged(workspace, {"a": "1\n"}, {"b": "2\n"})
    result = await workspace.merge(ours, theirs, message="Merge theirs")
    assert result.conflicts == ()
    assert result.commit is not None
    assert (await again(workspace).merge(ours, theirs, message="Merge theirs")).commit == result.commit
    assert git(workspace.repository, "rev-parse", f"{result.commit}^@").split() == [ours, theirs]
    assert await workspace.contents(result.commit) == {"a": b"1\n", "b": b"2\n"}
    assert (await workspace.merge(result.commit, theirs, message="again")).commit == result.commit


async def test_what_only_goes_on_is_merged_with_a_commit(workspace: GitWorkspace, tree: Worktree) -> None:
    """A task on top of the head shows in the history as a merge."""
    base = await workspace.prepare(None)
    write(tree.path, {"a": "1"})
    theirs = await workspace.commit("T1", message="Add a", parents=[base])
    result = await workspace.merge(base, theirs, message="Merge T1")
    assert result.commit not in (None, base, theirs)


async def test_conflicts_are_found_and_laid_out(workspace: GitWorkspace) -> None:
    """Conflicting files are named beforehand, laid out with markers, and resolved by a commit."""
    ours, theirs = await diverged(workspace, {"a": "1\n", "b": "same"}, {"a": "2\n", "c": "3"})
    result = await workspace.merge(ours, theirs, message="Merge")
    assert (result.commit, result.conflicts) == (None, ("a",))
    assert await workspace.conflicted("resolve", ours, theirs) == ("a",)
    tree = await workspace.worktree("resolve", ours)
    text = (tree.path / "a").read_text()
    assert "<<<<<<<" in text
    assert ">>>>>>>" in text
    start = await tree.current()
    assert start is not None
    write(tree.path, {"a": "both\n"})
    merged = await workspace.commit("resolve", message="Merge", parents=[ours, theirs])
    assert await workspace.contents(merged) == {"a": b"both\n", "b": b"same", "c": b"3"}
    await tree.restore(start)
    assert (tree.path / "a").read_text() == text
    assert await tree.snapshot() == start


async def test_differences_are_told(workspace: GitWorkspace, tree: Worktree) -> None:
    """Diff and changed paths compare with the folder as it is; long diffs are cut and say so."""
    write(tree.path, {"a": "1\n", "b": "x\n" * 50_000})
    base = await tree.snapshot()
    write(tree.path, {"a": "2\n", "new\u00e9": ""})
    (tree.path / "b").unlink()
    assert await tree.changed(base) == ["a", "b", "new\u00e9"]
    assert "-1\n+2\n" in await tree.diff(base)
    assert len((await tree.diff(base, max_bytes=500)).encode()) < 600
    assert "cut after 500 bytes" in await tree.diff(base, max_bytes=500)
    after = await tree.snapshot()
    assert await workspace.patch(base, after) == await tree.diff(base)


async def test_read_gives_regular_files_only(workspace: GitWorkspace, tree: Worktree) -> None:
    """Folders, links, strange paths and what is missing give None; large ones are empty in contents."""
    write(tree.path, {"d/a": "1", "big": "x" * 100})
    (tree.path / "link").symlink_to("d/a")
    commit = await tree.snapshot()
    assert await workspace.read(commit, "d/a") == b"1"
    for path in ("d", "d/", "link", "none", "../d/a", "/etc/passwd", "", "a\0", ":(top)d/a", "*", "\ud800"):
        assert await workspace.read(commit, path) is None
    assert await workspace.contents(commit, max_file_bytes=99) == {"d/a": b"1", "big": b""}


@pytest.mark.parametrize("commit", ["", "HEAD", "--output=x", "1" * 40, "refs/heads/main"])
async def test_only_commit_ids_are_taken_for_commits(
    workspace: GitWorkspace, tree: Worktree, commit: str
) -> None:
    """Options, expressions and unknown ids fail as git failures."""
    base = await workspace.prepare(None)
    for call in (
        tree.restore(commit),
        workspace.read(commit, "a"),
        workspace.log(base, commit),
        workspace.branch("x", commit),
        workspace.merge(base, commit, message=""),
    ):
        with pytest.raises(GitFailed):
            await call


async def test_a_branch_is_pointed_and_pointed_again(workspace: GitWorkspace, tree: Worktree) -> None:
    """Branches can be cloned by anyone; impossible names are refused."""
    write(tree.path, {"a": "1"})
    commit = await tree.snapshot()
    await workspace.branch("phoenix/demo", commit)
    await workspace.branch("phoenix/demo", commit)
    assert git(workspace.repository, "rev-parse", "refs/heads/phoenix/demo") == commit
    for name in ("", "-d", "a..b", "a b", "x.lock", "a\ud800", "@{-1}"):
        with pytest.raises(GitFailed):
            await workspace.branch(name, commit)


async def test_publish_adds_a_branch_and_touches_nothing_else(workspace: GitWorkspace, source: Path) -> None:
    """The user's folder, head and index stay; a branch with other commits, or checked out, is refused."""
    base = await workspace.prepare(str(source))
    tree = await workspace.worktree("T1", base)
    write(tree.path, {"app.py": "two\n"})
    commit = await workspace.commit("T1", message="Change", parents=[base])
    await workspace.branch("phoenix/x", commit)
    (source / "app.py").write_text("unsaved\n")
    status = git(source, "status", "--porcelain", "--branch")
    await workspace.publish(str(source), "phoenix/x")
    await workspace.publish(str(source), "phoenix/x")
    assert git(source, "rev-parse", "phoenix/x") == commit
    assert git(source, "status", "--porcelain", "--branch") == status
    assert git(source, "fsck", "--full") == ""
    await workspace.branch("phoenix/x", base)
    with pytest.raises(GitFailed):
        await workspace.publish(str(source), "phoenix/x")
    await workspace.branch("trunk", commit)
    with pytest.raises(GitFailed, match="checked out"):
        await workspace.publish(str(source), "trunk")
    with pytest.raises(RepositoryUnreadable):
        await workspace.publish("/etc", "phoenix/x")


async def test_remove_takes_folder_and_refs(workspace: GitWorkspace, tree: Worktree) -> None:
    """A removed worktree leaves nothing, can be removed again, and made anew."""
    write(tree.path, {"a": "1"})
    commit = await tree.snapshot()
    await workspace.remove("T1")
    await workspace.remove("T1")
    assert not tree.path.exists()
    assert "T1" not in git(workspace.repository, "for-each-ref")
    assert tree_of((await workspace.worktree("T1", commit)).path) == {"a": "1"}


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a..b", ".x", "-x", "x.lock", "x.", "\u00e9", "a\n", "a" * 101]
)
async def test_strange_worktree_names_are_refused(workspace: GitWorkspace, name: str) -> None:
    """A name becomes a folder and part of a ref."""
    base = await workspace.prepare(None)
    with pytest.raises(WorkspaceError):
        await workspace.worktree(name, base)


async def test_many_worktrees_work_at_once(workspace: GitWorkspace) -> None:
    """Parallel tasks do not hinder each other, and each gets its own content."""
    base = await workspace.prepare(None)

    async def work(n: int) -> str:
        tree = await workspace.worktree(f"T{n}", base)
        write(tree.path, {"n": str(n)})
        await tree.snapshot()
        return await workspace.commit(f"T{n}", message=f"Task {n}", parents=[base])

    commits = await asyncio.gather(*(work(n) for n in range(6)))
    for n, commit in enumerate(commits):
        assert await workspace.contents(commit) == {"n": str(n).encode()}


async def test_prune_leaves_what_lasts(workspace: GitWorkspace, tree: Worktree) -> None:
    """Worktrees, snapshots and what only they had go; commits, branches and the base stay. Idempotent."""
    base = await workspace.prepare(None)
    write(tree.path, {"a": "1"})
    snapshot = await tree.snapshot()
    write(tree.path, {"a": "2"})
    lasting = await workspace.commit("T1", message="Lasting", parents=[base])
    write(tree.path, {"a": "3"})
    delivered = await workspace.commit("T1", message="Delivered", parents=[lasting])
    await workspace.branch("phoenix/x", delivered)
    assert await workspace.prune(dry_run=True) > 0
    assert tree_of(tree.path) == {"a": "3"}
    assert await workspace.prune() > 0
    assert not tree.path.exists()
    assert await workspace.read(snapshot, "a") == b"1", "what is young stays for an hour"
    await again(workspace).prune(expire_seconds=0)
    with pytest.raises(GitFailed):
        await workspace.read(snapshot, "a")
    assert await workspace.read(lasting, "a") == b"2"
    assert await workspace.contents(delivered) == {"a": b"3"}
    assert git(workspace.repository, "rev-parse", "refs/heads/phoenix/x") == delivered
    assert await workspace.prepare(None) == base
    assert git(workspace.repository, "fsck", "--full", "--strict") == ""
    assert tree_of((await workspace.worktree("T1", lasting)).path) == {"a": "2"}


async def test_a_workspace_that_was_never_prepared_has_nothing_to_prune(workspace: GitWorkspace) -> None:
    """A project that failed at once left no repository."""
    assert await workspace.prune() == 0
    await workspace.destroy()


async def test_destroy_takes_all(workspace: GitWorkspace, tree: Worktree) -> None:
    """Also folders that forbid it; afterwards the project can be prepared anew."""
    write(tree.path, {"locked/deep/a": "1"})
    (tree.path / "locked" / "deep").chmod(0o000)
    await workspace.destroy()
    await workspace.destroy()
    assert list(workspace.repository.parents[1].iterdir()) == []
    await workspace.prepare(None)
