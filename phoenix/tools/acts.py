"""What a tool call would do, as far as it can be seen: the vocabulary of permission rules.

Whatever cannot be seen is said to be unknown, and never left out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of a command, a path or a host. `text` is None where it is not known before it runs."""

    text: str | None
    many: bool = False
    """An unknown word that may turn out as any number of words, none included."""


ONE = Word(None)
ANY = Word(None, many=True)


@dataclass(frozen=True)
class Act:
    """One thing that a call does: one command of a shell line, or the call of another tool."""

    words: tuple[Word, ...] | None = None
    """The command, program first; None when it is no command."""
    paths: tuple[Word, ...] = ()
    hosts: tuple[Word, ...] = ()
    hides: bool = False
    """It may do more than can be seen, such as run a script."""
    sure: bool = True
    """Its words mean what they say; else nothing may be allowed because of them."""


OPAQUE = Act(words=(ANY,), paths=(ANY,), hosts=(ANY,), hides=True, sure=False)
"""Something that is not understood."""
