"""What the workspace's tests share: the user's own git, and a project."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from phoenix.workspace import GitWorkspace

RunGit = Callable[..., str]


@pytest.fixture
def git() -> RunGit:
    """Return a function that runs plain git in a folder, with a fixed identity."""

    def run(folder: Path, *args: str, check: bool = True, stdin: str = "") -> str:
        options = (
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.org",
            "-c",
            "init.defaultBranch=trunk",
        )
        command = ["git", *options, *args]
        done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=check)
        return done.stdout.strip()

    return run


@pytest.fixture
def workspace(tmp_path: Path) -> GitWorkspace:
    """Return a project's workspace that is not prepared."""
    return GitWorkspace(tmp_path / "project", "demo")
