"""A provider's message, cleaned of what a checkpoint cannot hold."""

from __future__ import annotations

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call

from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.llm.repair import mend_json


def clean_answer(message: AIMessage) -> tuple[AIMessage, list[str]]:
    """Return the message cleaned, and the names of tools whose arguments cannot be read.

    Arguments that are almost JSON are mended; nothing is guessed into them.
    """
    calls = [
        tool_call(name=clean_text(c["name"]), args=clean_json(c["args"]), id=c["id"])
        for c in message.tool_calls
    ]
    unreadable: list[str] = []
    for broken in message.invalid_tool_calls:
        args = mend_json(broken["args"] or "")
        if args is None:
            unreadable.append(clean_text(broken["name"] or "a tool"))
        else:
            calls.append(
                tool_call(name=clean_text(broken["name"] or ""), args=clean_json(args), id=broken["id"])
            )
    content = message.content
    cleaned = AIMessage(
        content=clean_text(content) if isinstance(content, str) else clean_json(content),
        tool_calls=calls,
        additional_kwargs=clean_json(message.additional_kwargs),
        response_metadata=clean_json(message.response_metadata),
        usage_metadata=message.usage_metadata,
    )
    return cleaned, unreadable
