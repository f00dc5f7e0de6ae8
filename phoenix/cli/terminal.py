"""The person at the terminal: lines they type, and their editor. Nothing here holds up the event loop."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from phoenix.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

CHUNK_BYTES = 65_536
EDITORS = ("nano", "vi")


def is_interactive() -> bool:
    """Tell whether a person can be asked here."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class Terminal:
    """Asks for lines.

    Args:
        console: Where prompts go.
        fd: Where lines come from: a terminal in its own line mode, so that one read gives one line.
    """

    def __init__(self, console: Console, fd: int | None = None) -> None:
        self.console = console
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._rest = b""

    async def line(self, prompt: str) -> str:
        """Return the next line that is typed, without its end.

        Raises:
            EOFError: the person closed the input.
        """
        self.console.print(prompt, end="", markup=False, highlight=False, soft_wrap=True)
        self.console.file.flush()
        while b"\n" not in self._rest:
            await self._readable()
            chunk = os.read(self._fd, CHUNK_BYTES)
            if not chunk:
                raise EOFError
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._fd, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._fd)

    async def edit(self, text: str, *, suffix: str = ".yaml") -> str:
        """Return the text as the person's editor leaves it.

        Raises:
            InputError: there is no editor, or it failed.
        """
        command = editor_command()
        with tempfile.TemporaryDirectory(prefix="phoenix-edit-") as folder:
            file = Path(folder) / f"form{suffix}"
            file.write_text(text, encoding="utf-8")
            code = await _in_foreground([*command, str(file)])
            if code != 0:
                raise InputError(f"The editor {command[0]} ended with code {code}; nothing was changed.")
            try:
                return file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"What the editor left cannot be read: {error}.") from error


def editor_command() -> list[str]:
    """Return the person's editor as a command.

    Raises:
        InputError: there is none.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    try:
        command = shlex.split(named)
    except ValueError as error:
        raise InputError(f"EDITOR cannot be read: {error}.", field="EDITOR") from error
    command = command or [e for e in EDITORS if shutil.which(e)][:1]
    if not command or shutil.which(command[0]) is None:
        said = f"The editor {command[0]} was not found." if command else "There is no editor."
        raise InputError(said, hint="Set EDITOR, such as EDITOR=nano.", field="EDITOR")
    return command


async def _in_foreground(command: list[str]) -> int:
    """Run a command that owns the terminal: Ctrl-C is its own while it runs."""
    before = signal.signal(signal.SIGINT, _leave_to_child)
    try:
        process = await asyncio.create_subprocess_exec(*command)
        return await process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def _leave_to_child(_signum: int, _frame: object) -> None:
    """Do nothing; an ignored signal would be ignored by the child too, a handled one is not."""
