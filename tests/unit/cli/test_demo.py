"""The demo's last act: the delivered branch, checked out and tested outside Phoenix."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from phoenix.cli.demo import TESTS, clone, own_python, run_tests
from phoenix.errors import GitFailed

TEST = """
import os
import sys
import unittest


class Test(unittest.TestCase):
    def test_it(self):
        self.assertEqual({value}, 1)
        self.assertFalse([name for name in os.environ if name.startswith("PHOENIX_")])
        self.assertNotIn("pydantic", sys.modules)
"""


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def delivered(folder: Path, value: int) -> Path:
    """Return a repository whose branch `phoenix/x` holds a test."""
    repository = folder / "repository"
    (repository / "tests").mkdir(parents=True)
    (repository / "tests" / "__init__.py").touch()
    (repository / "tests" / "test_x.py").write_text(TEST.format(value=value))
    git(folder, "init", "-q", "-b", "main", str(repository))
    git(repository, "checkout", "-q", "-b", "phoenix/x")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Deliver")
    return repository


@pytest.mark.parametrize(("value", "passed"), [(1, True), (2, False)])
def test_the_delivered_tests_decide(tmp_path: Path, value: int, passed: bool) -> None:
    """They run with the Python that made this environment, not with the environment's own."""
    checkout = tmp_path / "demo" / "x"
    clone(str(delivered(tmp_path, value)), "phoenix/x", checkout)
    own = run_tests(checkout, TESTS[0])
    assert own.passed is passed, own.output
    assert own.command.startswith(own_python())
    assert "Ran 1 test" in own.output


def test_a_checkout_is_made_anew(tmp_path: Path) -> None:
    """What an earlier run left there is gone."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "left").touch()
    clone(str(delivered(tmp_path, 1)), "phoenix/x", checkout)
    assert sorted(p.name for p in checkout.iterdir()) == [".git", "tests"]


def test_nothing_of_the_users_own_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a hook from a template nor a filter that the delivered attributes ask for."""
    canary, home = tmp_path / "canary", tmp_path / "home"
    hook = home / "template" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {canary}\n")
    hook.chmod(0o755)
    config = f'[init]\n\ttemplateDir = {home / "template"}\n[filter "x"]\n\tsmudge = touch {canary}; cat\n'
    (home / ".gitconfig").write_text(config)
    repository = delivered(tmp_path, 1)
    (repository / ".gitattributes").write_text("* filter=x\n")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Ask for a filter")
    monkeypatch.setenv("HOME", str(home))
    clone(str(repository), "phoenix/x", tmp_path / "checkout")
    assert not canary.exists()


def test_a_branch_that_is_not_there_is_said(tmp_path: Path) -> None:
    """In git's own words."""
    with pytest.raises(GitFailed, match="cannot be checked out"):
        clone(str(delivered(tmp_path, 1)), "phoenix/other", tmp_path / "checkout")
