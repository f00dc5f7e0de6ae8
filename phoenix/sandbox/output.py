"""Capture of a command's output: bounded while it is read, clean when it is returned."""

from __future__ import annotations

import re

BEFORE_BYTES = 64 * 1024
"""What a sandbox may say before the command starts."""

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # control sequences: colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # strings: titles, links, device control
    r"|[ -/]*[0-~]?)"  # the two- and three-character rest
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(data: bytes) -> str:
    """Decode output as UTF-8 and remove what could act on a terminal, a log or a database.

    Escape sequences, control characters but newline and tab, and bidirectional overrides go;
    carriage returns become newlines, so that progress bars stay readable.
    """
    text = data.decode("utf-8", "replace")
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub("", text)


class Capture:
    """Collects one stream, keeping its head and its tail.

    Args:
        limit: How many bytes are kept.
        ready: The mark that the sandbox prints when isolation stands; what comes before it is kept
            apart and is no output of the command. Empty when the stream starts with the command.
    """

    def __init__(self, limit: int, ready: bytes = b"") -> None:
        self._head_limit = max(1, limit // 2)
        self._tail_limit = max(1, limit - self._head_limit)
        self._ready = ready
        self._head = bytearray()
        self._tail = bytearray()
        self.before = bytearray()
        self.ready = not ready
        self.total = 0

    @classmethod
    def of(cls, limit: int, head: bytes, tail: bytes, total: int) -> Capture:
        """Return a stream that was captured elsewhere, of so many bytes in all."""
        capture = cls(limit)
        capture._head[:], capture._tail[:], capture.total = head, tail, total
        return capture

    def feed(self, data: bytes) -> None:
        """Take in what was read."""
        if self.ready:
            self._keep(data)
            return
        self.before += data
        found = self.before.find(self._ready)
        if found >= 0:
            rest = bytes(self.before[found + len(self._ready) :])
            del self.before[found:]
            self.ready = True
            self._keep(rest)
        elif len(self.before) > BEFORE_BYTES:
            del self.before[: -BEFORE_BYTES // 2]

    def _keep(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        self._tail += data
        if len(self._tail) > 2 * self._tail_limit:
            del self._tail[: -self._tail_limit]

    @property
    def truncated(self) -> bool:
        """Tell whether something was dropped from the middle."""
        return self.total > self._head_limit + self._tail_limit

    def text(self) -> str:
        """Return the clean text; a line in between says how many bytes were dropped."""
        if not self.truncated:
            return clean(bytes(self._head + self._tail))
        tail = bytes(self._tail[-self._tail_limit :])
        dropped = self.total - len(self._head) - len(tail)
        return f"{clean(bytes(self._head))}\n[... {dropped} bytes dropped ...]\n{clean(tail)}"
