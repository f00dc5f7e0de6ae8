"""Captured output: bounded, clean, and apart from what the sandbox itself says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.sandbox.output import BEFORE_BYTES, Capture, clean


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain\ttext\n", "plain\ttext\n"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07after", "after"),
        (b"\x1b]8;;http://x\x1b\\link", "link"),
        (b"\x1bPdevice\x1b\\x", "x"),
        (b"a\r\nb\rc", "a\nb\nc"),
        (b"a\0b\x08c\x7f", "abc"),
        ("\u009b31mx\u202ey".encode(), "31mxy"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("grün ✓".encode(), "grün ✓"),
    ],
)
def test_text_is_cleaned(raw: bytes, text: str) -> None:
    """Escape sequences and control characters go; text stays."""
    assert clean(raw) == text


@given(st.binary(max_size=300))
def test_nothing_clean_can_act_on_a_terminal_or_a_database(raw: bytes) -> None:
    """Whatever is printed, no control character, NUL or surrogate comes through."""
    for c in clean(raw):
        assert c in "\n\t" or ord(c) >= 0x20
        assert not 0x7F <= ord(c) <= 0x9F
        assert not 0xD800 <= ord(c) <= 0xDFFF


@given(st.lists(st.binary(max_size=50)), st.integers(2, 100))
def test_what_is_kept_is_head_and_tail(pieces: list[bytes], limit: int) -> None:
    """However output is cut into reads, the first and last bytes are kept, and no more."""
    capture = Capture(limit)
    for piece in pieces:
        capture.feed(piece)
    whole = b"".join(pieces)
    assert capture.total == len(whole)
    assert capture.truncated == (len(whole) > limit)
    if not capture.truncated:
        assert capture.text() == clean(whole)
    else:
        assert f"[... {len(whole) - limit} bytes dropped ...]" in capture.text()


def test_the_mark_divides_the_sandbox_from_the_command() -> None:
    """What comes before the mark is not output, even when the mark is cut in two."""
    capture = Capture(100, b"[mark]")
    capture.feed(b"bash: warning\n[ma")
    assert not capture.ready
    capture.feed(b"rk]real")
    assert capture.ready
    assert capture.text() == "real"
    assert bytes(capture.before) == b"bash: warning\n"


def test_a_sandbox_that_never_gets_ready_cannot_fill_the_memory() -> None:
    """Text before the mark is bounded."""
    capture = Capture(100, b"[mark]")
    for _ in range(100):
        capture.feed(b"x" * 10_000)
    assert len(capture.before) <= 2 * BEFORE_BYTES
