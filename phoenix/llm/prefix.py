"""Prompt caching at the provider: what stays the same between calls is marked, where marks are needed.

Prompts put what is stable first: the system message, then the task, then what was said since. OpenAI and
most others cache such prefixes by themselves; Anthropic caches what is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import BaseMessage, SystemMessage

MARK = {"type": "ephemeral"}


def marked(
    messages: Sequence[BaseMessage], options: dict[str, Any]
) -> tuple[list[BaseMessage], dict[str, Any]]:
    """Return messages and options of an Anthropic call with its stable parts marked.

    The system message is marked, which covers the tools before it; `cache_control` has the last message
    marked as well, so that the next call of a conversation finds this one's.
    """
    return [_marked(m) for m in messages], {"cache_control": MARK, **options}


def _marked(message: BaseMessage) -> BaseMessage:
    if not isinstance(message, SystemMessage) or not message.text:
        return message
    block = {"type": "text", "text": message.text, "cache_control": MARK}
    return message.model_copy(update={"content": [block]})
