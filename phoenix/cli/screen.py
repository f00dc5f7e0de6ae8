"""Where a run is followed: a live terminal, plain lines, or JSON lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeAlias

from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding

from phoenix.cli.board import board, header
from phoenix.cli.documents import line, new_console
from phoenix.cli.lines import line_of
from phoenix.cli.output import print_json
from phoenix.cli.view import View
from phoenix.domain.run import Event


class JsonScreen:
    """One JSON object a line for each event."""

    def start(self, view: View) -> None:
        """Say nothing: the first event says it."""

    def show(self, view: View, event: Event) -> None:
        """Print an event."""
        print_json(event.model_dump(mode="json"))

    def tick(self, view: View) -> None:
        """Do nothing between events."""

    def present(self, title: str, document: RenderableType | None = None) -> None:
        """Leave documents out: readers of JSON find them in `phoenix show --json`."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Yield at once."""
        yield

    def stop(self) -> None:
        """Do nothing at the end."""


class PlainScreen:
    """Lines that scroll, for logs and pipes."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or new_console()

    def start(self, view: View) -> None:
        """Say what is followed."""
        self.console.print(line(view.title), soft_wrap=True)
        self.console.print(header(view), soft_wrap=True)

    def show(self, view: View, event: Event) -> None:
        """Print an event as a line."""
        said = line_of(view, event)
        if said is not None:
            self.console.print(line(f"{event.at:%H:%M:%S}  {said[1]}"), soft_wrap=True)
            self.console.file.flush()

    def tick(self, view: View) -> None:
        """Do nothing between events."""

    def present(self, title: str, document: RenderableType | None = None) -> None:
        """Print a document under its title."""
        present(self.console, title, document)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Yield at once: lines do not redraw themselves."""
        yield

    def stop(self) -> None:
        """Do nothing at the end."""


class LiveScreen:
    """A terminal: what matters scrolls by, and below it a board changes in place."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or new_console()
        self._live: Live | None = None
        self._view = View()

    def start(self, view: View) -> None:
        """Begin to draw."""
        self._view = view
        self._live = Live(console=self.console, auto_refresh=False, transient=True)
        self._live.start()
        _send_logs_to(sys.stderr)
        self.tick(view)

    def show(self, view: View, event: Event) -> None:
        """Take in an event; what stays is printed above the board."""
        self._view = view
        said = line_of(view, event)
        if said is None or said[0] != "main":
            return
        if self._live is not None:
            self._live.update(board(view, datetime.now(UTC)))
        self.console.print(line(said[1]))

    def tick(self, view: View) -> None:
        """Draw the board as it is now."""
        self._view = view
        if self._live is not None:
            self._live.update(board(view, datetime.now(UTC)), refresh=True)

    def present(self, title: str, document: RenderableType | None = None) -> None:
        """Print a document under its title, above the board."""
        present(self.console, title, document)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the board away while somebody is asked."""
        self.stop()
        try:
            yield
        finally:
            self.start(self._view)

    def stop(self) -> None:
        """Take the board away."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            _send_logs_to(sys.stderr)


Screen: TypeAlias = JsonScreen | PlainScreen | LiveScreen


def open_screen(*, as_json: bool, output_only: bool = False) -> Screen:
    """Return the screen for where standard output goes.

    Args:
        as_json: Whether programs read it.
        output_only: Where it is a pipe, it is for a flow's output: lines go to standard error.
    """
    if as_json:
        return JsonScreen()
    if sys.stdout.isatty():
        return LiveScreen()
    return PlainScreen(new_console(sys.stderr if output_only else sys.stdout))


def present(console: Console, title: str, document: RenderableType | None = None) -> None:
    """Print a document under its title."""
    console.print(line(title, "bold cyan"), soft_wrap=True)
    if document is not None:
        console.print(Padding(document, (0, 0, 0, 2)))


def _send_logs_to(stream: object) -> None:
    """Let logs go through what stands for stderr now: a live board redraws itself below them."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(stream)
