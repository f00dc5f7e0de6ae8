"""An agent's messages, stored as what each step added and not as the whole list again.

LangGraph's own reducer for this leaves out `REMOVE_ALL_MESSAGES`, by which summarising replaces a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from langchain_core.messages import (
    AnyMessage,
    BaseMessageChunk,
    RemoveMessage,
    convert_to_messages,
    message_chunk_to_message,
)
from langgraph.channels import DeltaChannel
from langgraph.graph.message import REMOVE_ALL_MESSAGES

SNAPSHOT_UPDATES = 2000
"""Updates after which the whole list is stored once more: many more than an agent makes in its turns."""


def merge_messages(state: Sequence[Any], writes: Sequence[Any]) -> list[AnyMessage]:
    """Return a list of messages after writes, each a message or a list of them.

    One of a known id replaces the message in its place, a RemoveMessage takes it away, and
    REMOVE_ALL_MESSAGES takes away all before it. Merging writes one after the other gives the same as
    merging them together: LangGraph replays them in other batches than they came in.

    Raises:
        ValueError: a message that is to be removed is not there.
    """
    merged: dict[str, Any] = {}
    written = [m for write in writes for m in (write if isinstance(write, list) else [write])]
    for message in convert_to_messages([*state, *written]):
        # LangGraph gives ids before it stores a write, so a replay meets the same ones.
        identity = message.id or str(uuid4())
        if not isinstance(message, RemoveMessage):
            is_chunk = isinstance(message, BaseMessageChunk)
            merged[identity] = message_chunk_to_message(message) if is_chunk else message
            merged[identity].id = identity
        elif identity == REMOVE_ALL_MESSAGES:
            merged.clear()
        elif merged.pop(identity, None) is None:
            raise ValueError(f"There is no message {identity!r} to remove.")
    return list(merged.values())


def messages_channel() -> DeltaChannel[Any]:
    """Return the channel of an agent's messages."""
    return DeltaChannel(merge_messages, list, snapshot_frequency=SNAPSHOT_UPDATES)
