"""A provider's message, cleaned of what a checkpoint cannot hold."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call

from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.llm.repair import mend_json
from phoenix.telemetry.redaction import mask_known


def clean_answer(message: AIMessage) -> tuple[AIMessage, list[str]]:
    """Return the message cleaned and without known secrets, and which tools' arguments cannot be read.

    Arguments that are almost JSON are mended; nothing is guessed into them.
    """
    calls = [
        tool_call(name=clean_text(c["name"]), args=_clean(c["args"]), id=c["id"]) for c in message.tool_calls
    ]
    unreadable: list[str] = []
    for broken in message.invalid_tool_calls:
        args = mend_json(broken["args"] or "")
        if args is None:
            unreadable.append(clean_text(broken["name"] or "a tool"))
        else:
            calls.append(tool_call(name=clean_text(broken["name"] or ""), args=_clean(args), id=broken["id"]))
    content = message.content
    cleaned = AIMessage(
        content=_clean(content),
        tool_calls=calls,
        additional_kwargs=_clean(message.additional_kwargs),
        response_metadata=_clean(message.response_metadata),
        usage_metadata=message.usage_metadata,
    )
    return cleaned, unreadable


def _clean(value: Any) -> Any:
    return mask_known(clean_text(value) if isinstance(value, str) else clean_json(value))
