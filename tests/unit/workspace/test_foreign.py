"""Nothing that a foreign repository brings may act on the host."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix.workspace import GitWorkspace
from phoenix.workspace.git import Git

RunGit = Callable[..., str]

HOOKS = ("post-checkout", "pre-commit", "post-commit", "reference-transaction", "pre-receive", "post-receive")
BY_CONFIG = {
    "core.fsmonitor": "fsmonitor",
    "core.sshCommand": "ssh",
    "core.editor": "editor",
    "diff.external": "external-diff",
    "diff.evil.textconv": "textconv",
    "filter.evil.clean": "clean",
    "filter.evil.smudge": "smudge",
    "merge.evil.driver": "merge-driver",
    "credential.helper": "credential",
}


class Trap:
    """Programs that leave a file behind when anything runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fired_folder = folder / "fired"
        self.fired_folder.mkdir(parents=True)

    def program(self, name: str) -> str:
        """Write a program that passes its input on and leaves its name behind."""
        path = self.folder / f"run-{name}"
        path.write_text(f"#!/bin/sh\n: > '{self.fired_folder}/{name}'\n[ $# = 0 ] && cat\nexit 0\n")
        path.chmod(0o755)
        return str(path)

    def fired(self) -> set[str]:
        """Return which programs ran, and forget it."""
        found = {path.name for path in self.fired_folder.iterdir()}
        for name in found:
            (self.fired_folder / name).unlink()
        return found


@pytest.fixture
def trap(tmp_path: Path) -> Trap:
    """Return an empty trap."""
    return Trap(tmp_path / "trap")


def arm(trap: Trap, git: RunGit, folder: Path) -> None:
    """Set every kind of trap that a repository can bring in its own `.git`."""
    for hook in HOOKS:
        (folder / ".git/hooks").mkdir(exist_ok=True)
        (folder / ".git/hooks" / hook).symlink_to(trap.program(hook))
    for key, name in BY_CONFIG.items():
        git(folder, "config", key, trap.program(name))
    included = trap.folder / "included"
    included.write_text(f"[alias]\n\tincluded = !{trap.program('include')}\n")
    git(folder, "config", "include.path", str(included))
    git(folder, "config", "alias.evil", f"!{trap.program('alias')}")
    git(folder, "config", "submodule.sub.update", f"!{trap.program('submodule')}")
    git(folder, "config", "submodule.sub.url", str(folder))


@pytest.fixture
def source(tmp_path: Path, git: RunGit, trap: Trap) -> Path:
    """Make a repository that is one big trap."""
    folder = tmp_path / "source"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one\n")
    (folder / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    (folder / ".gitmodules").write_text('[submodule "sub"]\n\tpath = sub\n\turl = ext::sh -c x\n')
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Start")
    head = git(folder, "rev-parse", "HEAD")
    git(folder, "update-index", "--add", "--cacheinfo", f"160000,{head},sub")
    git(folder, "commit", "-q", "-m", "Add a submodule")
    for name in ("left", "right"):
        git(folder, "branch", name)
    arm(trap, git, folder)
    return folder


def tour_with_plain_git(git: RunGit, source: Path, elsewhere: Path) -> None:
    """Do with plain git what sets off each trap."""

    def say(*args: str, stdin: str = "") -> None:
        git(source, *args, check=False, stdin=stdin)

    say("status")
    for name in ("left", "right"):
        say("checkout", "-q", "-f", name)
        (source / "a.txt").write_text(f"{name}\n")
        say("diff")
        say("add", "a.txt")
        say("commit", "--allow-empty", "-m", name)
    say("log", "-p", "--no-ext-diff")
    say("merge", "-q", "left", "-m", "merge")
    say("commit", "--amend", "--allow-empty")
    say("fetch", "ssh://nowhere/x")
    say("credential", "fill", stdin="protocol=https\nhost=example.org\n\n")
    say("evil")
    say("included")
    say("-c", "protocol.file.allow=always", "submodule", "update", "sub")
    git(elsewhere.parent, "clone", "-q", "--no-recurse-submodules", str(source), str(elsewhere), check=False)
    git(elsewhere, "push", "-q", "origin", "HEAD:refs/heads/pushed", check=False)


async def tour_with_phoenix(workspace: GitWorkspace, source: Path, trap: Trap, git: RunGit) -> None:
    """Do everything that a workspace can do."""
    base = await workspace.prepare(str(source))
    commits = []
    for name in ("one", "two"):
        tree = await workspace.worktree(name, base)
        git(tree.path, "init", "-q")
        arm(trap, git, tree.path)
        trap.fired()
        (tree.path / "a.txt").write_text(f"{name}\n")
        (tree.path / f"{name}.txt").write_text("new\n")
        snapshot = await tree.snapshot()
        await tree.diff(base)
        await tree.changed(base)
        commits.append(await workspace.commit(name, message=name, parents=[base]))
        await tree.restore(base)
        await tree.restore(snapshot)
    assert (await workspace.merge(*commits, message="merge")).conflicts == ("a.txt",)
    await workspace.conflicted("three", *commits)
    merged = await workspace.commit("three", message="merge", parents=commits)
    await workspace.log(base, merged)
    await workspace.patch(base, merged)
    await workspace.contents(merged)
    await workspace.branch("phoenix/done", merged)
    await workspace.publish(str(source), "phoenix/done")
    await workspace.remove("one")


async def test_no_trap_of_a_repository_acts(
    workspace: GitWorkspace, source: Path, trap: Trap, git: RunGit, tmp_path: Path
) -> None:
    """Hooks, filters, drivers, helpers, aliases, includes and submodules act with plain git only."""
    tour_with_plain_git(git, source, tmp_path / "clone")
    expected = {*HOOKS, *BY_CONFIG.values(), "include", "alias", "submodule"}
    assert trap.fired() == expected
    await tour_with_phoenix(workspace, source, trap, git)
    assert trap.fired() == set()


async def test_no_trap_of_the_users_own_configuration_acts(
    workspace: GitWorkspace,
    source: Path,
    trap: Trap,
    git: RunGit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What helps a user at the terminal must not change what Phoenix does."""
    home = tmp_path / "home"
    template = home / "template" / "hooks"
    template.mkdir(parents=True)
    (template / "reference-transaction").symlink_to(trap.program("template"))
    ssh, diff = trap.program("ssh"), trap.program("external-diff")
    (home / ".gitconfig").write_text(
        f"[init]\n\ttemplateDir = {template.parent}\n[diff]\n\texternal = {diff}\n"
        f"[core]\n\tsshCommand = {ssh}\n"
        f'\thooksPath = {template}\n[core]\n\tautocrlf = true\n[url "ssh://x/"]\n\tinsteadOf = /\n'
    )
    for name, value in {"HOME": str(home), "GIT_EXTERNAL_DIFF": diff, "GIT_SSH_COMMAND": ssh}.items():
        monkeypatch.setenv(name, value)
    git(tmp_path, "ls-remote", "/x", check=False)
    git(tmp_path, "init", "-q", "plain")
    git(tmp_path / "plain", "commit", "--allow-empty", "-q", "-m", "x")
    assert trap.fired() == {"ssh", "template"}
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "wrong"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "wrong"))
    base = await workspace.prepare(str(source))
    tree = await workspace.worktree("T1", base)
    (tree.path / "a.txt").write_bytes(b"x\r\n")
    commit = await tree.snapshot()
    await workspace.patch(base, commit)
    assert await workspace.read(commit, "a.txt") == b"x\r\n"
    assert trap.fired() == set()


async def test_submodules_stay_as_they_are(workspace: GitWorkspace, source: Path, git: RunGit) -> None:
    """A submodule is an empty folder; leaving it alone keeps it, deleting it removes it."""
    base = await workspace.prepare(str(source))
    tree = await workspace.worktree("T1", base)
    assert list((tree.path / "sub").iterdir()) == []
    assert await tree.changed(base) == []
    (tree.path / "sub").rmdir()
    assert await tree.changed(base) == ["sub"]
    (tree.path / "sub").mkdir()
    (tree.path / "sub" / "code").write_text("x")
    assert await tree.files() == [".gitattributes", ".gitmodules", "a.txt", "sub/code"]


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "git~1", ".g\u200cit", "a\xff", "."])
async def test_a_crafted_tree_cannot_write_outside(
    workspace: GitWorkspace, tmp_path: Path, git: RunGit, name: str
) -> None:
    """Entries that no checkout may hold are not laid out; the rest of the commit is."""
    await workspace.prepare(None)
    repository = workspace.repository
    store = Git(repository)

    def put(kind: str, data: bytes) -> str:
        return (
            store.run("hash-object", "-w", "-t", kind, "--literally", "--stdin", stdin=data)
            .out.decode()
            .strip()
        )

    def entry(mode: str, called: bytes, id_: str) -> bytes:
        return mode.encode() + b" " + called + b"\0" + bytes.fromhex(id_)

    blob = put("blob", b"evil")
    inner = put("tree", entry("100644", b"config", blob))
    raw = name.encode("latin-1") if name == "a\xff" else name.encode()
    tree_id = put("tree", b"".join(sorted([entry("40000", raw, inner), entry("100644", b"ok", blob)])))
    commit = put("commit", f"tree {tree_id}\nauthor A <a> 1 +0000\ncommitter A <a> 1 +0000\n\nx\n".encode())
    tree = await workspace.worktree("T1", commit)
    assert [path.name for path in tree.path.iterdir()] == ["ok"]
    assert not (tree.path.parent / "config").exists()
    assert await tree.snapshot()


async def test_reads_never_follow_links(workspace: GitWorkspace, tmp_path: Path) -> None:
    """Links to the host's files and folders are stored as links, and replaced, never written through."""
    secret = tmp_path / "host"
    secret.mkdir()
    (secret / "key").write_text("secret")
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    (tree.path / "d").mkdir()
    (tree.path / "d" / "key").write_text("mine")
    (tree.path / ".gitignore").write_text("nothing\n")
    commit = await tree.snapshot()
    (tree.path / "d" / "key").unlink()
    (tree.path / "d").rmdir()
    (tree.path / ".gitignore").unlink()
    (tree.path / "d").symlink_to(secret)
    (tree.path / "f").symlink_to(secret / "key")
    (tree.path / ".gitignore").symlink_to(secret / "key")
    planted = await tree.snapshot()
    assert await tree.files() == [".gitignore", "d", "f"]
    assert await workspace.read(planted, "d/key") is None
    assert await workspace.read(planted, "f") is None
    await tree.restore(commit)
    assert (secret / "key").read_text() == "secret"
    assert (tree.path / "d" / "key").read_text() == "mine"


async def test_a_worktree_that_became_a_link_is_replaced(workspace: GitWorkspace, tmp_path: Path) -> None:
    """Not even the folder itself is followed."""
    host = tmp_path / "host"
    host.mkdir()
    (host / "key").write_text("secret")
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    commit = await tree.snapshot()
    tree.path.rmdir()
    tree.path.symlink_to(host)
    await tree.restore(commit)
    assert not tree.path.is_symlink()
    assert (host / "key").read_text() == "secret"


async def test_pipes_sockets_and_devices_do_not_hinder(workspace: GitWorkspace) -> None:
    """What is no file is left out, even where git would wait on it for ever."""
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    os.mkfifo(tree.path / ".gitignore")
    os.mkfifo(tree.path / "pipe")
    (tree.path / "a").write_text("1")
    assert await tree.files() == ["a"]
    await tree.restore(await tree.snapshot())
    assert [path.name for path in tree.path.iterdir()] == ["a"]


async def test_hard_links_become_plain_files(workspace: GitWorkspace) -> None:
    """After a restore no file shares its content with another."""
    tree = await workspace.worktree("T1", await workspace.prepare(None))
    (tree.path / "a").write_text("1")
    (tree.path / "b").hardlink_to(tree.path / "a")
    await tree.restore(await tree.snapshot())
    (tree.path / "a").write_text("2")
    assert (tree.path / "b").read_text() == "1"


async def test_nothing_planted_in_the_projects_own_repository_acts(
    workspace: GitWorkspace, trap: Trap, git: RunGit
) -> None:
    """Hooks and configuration there are nobody's wish: files are kept whole, and no program runs."""
    base = await workspace.prepare(None)
    own = workspace.repository
    hook = own / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(Path(trap.program("hook")).read_text())
    hook.chmod(0o755)
    ignored, attributes = trap.folder / "ignored", trap.folder / "attributes"
    ignored.write_text("*.py\n")
    attributes.write_text("* merge=evil\n")
    git(own, "config", "core.excludesFile", str(ignored))
    git(own, "config", "core.attributesFile", str(attributes))
    git(own, "config", "merge.evil.driver", trap.program("driver"))
    trap.fired()
    commits = []
    for name, text in (("one", "a\nb\nc\n"), ("two", "x\nb\ny\n")):
        tree = await workspace.worktree(name, base)
        (tree.path / "app.py").write_text(text)
        commits.append(await workspace.commit(name, message=name, parents=[base]))
        assert await workspace.read(commits[-1], "app.py") == text.encode()
    merged = await workspace.merge(commits[0], commits[1], message="Merge")
    assert merged.conflicts == ("app.py",)
    await workspace.branch("phoenix/done", commits[0])
    assert trap.fired() == set()
