"""Ask git what a folder's `.gitignore` files leave out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType

from phoenix.workspace.git import Git, Talk

CACHES = """\
__pycache__/
*.py[co]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
.venv/
node_modules/
.DS_Store
"""
"""Left out of every project, unless its own `.gitignore` takes them back in with `!`."""


class Ignore(AbstractContextManager["Ignore"]):
    """Answers for one walk of a folder. Answers of earlier walks hold while the rules are the same."""

    def __init__(self, git: Git, folder: Path, known: dict[tuple[str, str], bool]) -> None:
        """Bind to a folder.

        Args:
            git: The repository; its `info/exclude` counts too.
            folder: The folder; no `.gitignore` in it may be other than a regular file.
            known: Answers by (id of the rules, path), of the walk before.
        """
        self.answers: dict[tuple[str, str], bool] = {}
        self._git = git
        self._folder = folder
        self._known = known
        self._talk: Talk | None = None
        self._stack = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def ignored(self, rules: str, paths: Sequence[str]) -> set[str]:
        """Return which paths, all of one folder, are left out. Folders end with a slash."""
        new = [path for path in paths if (rules, path) not in self._known]
        self.answers.update(
            {(rules, path): self._known[rules, path] for path in paths if (rules, path) in self._known}
        )
        self.answers.update({(rules, path): answer for path, answer in zip(new, self._ask(new), strict=True)})
        return {path for path in paths if self.answers[rules, path]}

    def _ask(self, paths: Sequence[str]) -> Iterator[bool]:
        if paths and self._talk is None:
            command = ("check-ignore", "--no-index", "--stdin", "-z", "--verbose", "--non-matching")
            opened = self._git.talk(*command, expect=(0, 1), work_tree=self._folder)
            self._talk = self._stack.enter_context(opened)
        for path in paths:
            assert self._talk is not None
            # "./" keeps a name that starts with a colon from being a pathspec's magic.
            self._talk.stdin.write(b"./" + os.fsencode(path.rstrip("/")) + b"\0")
            self._talk.stdin.flush()
            pattern = [_field(self._talk) for _ in range(4)][2]
            yield bool(pattern) and not pattern.startswith(b"!")


def _field(talk: Talk) -> bytes:
    field = bytearray()
    while (byte := talk.stdout.read(1)) != b"\0":
        if not byte:
            raise BrokenPipeError  # git has ended; its last words become the error
        field += byte
    return bytes(field)
