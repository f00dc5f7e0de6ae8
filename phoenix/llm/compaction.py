"""Conversations made shorter where a model cannot hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

KEPT_CHARS = 200
"""What is left of a result: its beginning says what it was."""
NOTE = "[{left_out} characters of this earlier result are left out, as the conversation is too long]"


@dataclass(frozen=True)
class Compacted:
    """A shorter conversation, and what was left out of it."""

    messages: list[BaseMessage]
    results: int
    characters: int


def compact(messages: Sequence[BaseMessage]) -> Compacted | None:
    """Cut the older half, by length, of what tools answered; None where there is nothing to cut.

    Results since the model's last answer stay whole: it has not seen them yet. What people and models said
    stays, and so does every call with its result's place. The same conversation gives the same one.
    """
    last = max((n for n, m in enumerate(messages) if isinstance(m, AIMessage)), default=0)
    old = [n for n, m in enumerate(messages[:last]) if isinstance(m, ToolMessage) and _is_long(m)]
    due = sum(len(messages[n].text) for n in old) / 2
    found = list(messages)
    results = characters = 0
    for place in old:
        if characters >= due:
            break
        text = messages[place].text
        left_out = len(text) - KEPT_CHARS
        note = NOTE.format(left_out=left_out)
        found[place] = messages[place].model_copy(update={"content": f"{text[:KEPT_CHARS]}\n{note}"})
        results, characters = results + 1, characters + left_out
    return Compacted(found, results, characters) if results else None


def _is_long(message: ToolMessage) -> bool:
    return len(message.text) > KEPT_CHARS + len(NOTE) + 1
