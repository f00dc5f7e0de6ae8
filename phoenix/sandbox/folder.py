"""The part that every sandbox over a folder of this machine shares: checks, uploads, downloads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from phoenix.domain.execution import Environment
from phoenix.errors import PathRefused
from phoenix.sandbox.beneath import MAX_BYTES, read_beneath, write_beneath

PATH = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


class Folder:
    """A workspace folder on this machine, opened for one environment."""

    def __init__(self, workspace: Path, environment: Environment | None, read_only: bool) -> None:
        self.workspace = workspace.absolute()
        self.environment = environment
        self.read_only = read_only

    def require(self) -> Path:
        """Return the folder's real path.

        Raises:
            PathRefused: it is missing, no folder, or the root of the file system.
        """
        real = self.workspace.resolve()
        if not real.is_dir() or real == Path("/"):
            raise PathRefused(f"The workspace {self.workspace} is not a folder.")
        return real

    async def upload(self, files: Mapping[str, bytes]) -> None:
        """Write files, by path relative to the workspace.

        Raises:
            PathRefused: a path is absolute, leaves the workspace, or passes through a link.
        """
        for path, data in files.items():
            await asyncio.to_thread(write_beneath, self.workspace, path, data)

    async def download(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Read regular files, by path relative to the workspace; a missing one is left out.

        Raises:
            PathRefused: a path leaves the workspace, passes through a link, or is no regular file.
        """
        found: dict[str, bytes] = {}
        for path in paths:
            data = await asyncio.to_thread(read_beneath, self.workspace, path, MAX_BYTES)
            if data is not None:
                found[path] = data
        return found

    def inner_variables(
        self, extra: Mapping[str, str] | None, *, home: str, tmp: str, python: Sequence[str] = ()
    ) -> dict[str, str]:
        """Return the whole environment of a command: nothing of this process's own is in it."""
        environment = self.environment
        first = [str(p) for p in environment.path] if environment else []
        return {
            "PATH": ":".join([*first, *python, *PATH]),
            "HOME": home,
            "TMPDIR": tmp,
            "USER": "phoenix",
            "LOGNAME": "phoenix",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "PAGER": "cat",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
            "GIT_TERMINAL_PROMPT": "0",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environment.variables if environment else {}),
            **(extra or {}),
        }
