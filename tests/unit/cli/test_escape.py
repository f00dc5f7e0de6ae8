"""Foreign text on a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phoenix.cli.escape import clean, one_line


@given(st.text())
def test_nothing_acts_on_the_terminal(text: str) -> None:
    """No control character but newline and tab is left, and no lone surrogate."""
    said = clean(text)
    assert all(c in "\n\t" or (ord(c) >= 0x20 and not 0x7F <= ord(c) < 0xA0) for c in said)
    said.encode("utf-8")


def test_an_escape_sequence_is_seen() -> None:
    """What it says stays readable."""
    assert clean("\x1b[31mred") == "␛[31mred"


def test_text_that_turns_its_direction_round_is_marked() -> None:
    """A file name cannot pretend to be another."""
    assert clean("evil\u202etxt.exe") == "evil\ufffdtxt.exe"


@given(st.text(), st.integers(2, 40))
def test_one_line_fits(text: str, width: int) -> None:
    """It is never longer than asked, and never more than a line."""
    said = one_line(text, width)
    assert len(said) <= width
    assert "\n" not in said
