"""Answers that come in pieces: watched while they come, and taken whole or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_ai_message_chunks
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.outputs import ChatGenerationChunk

ENDINGS = ("finish_reason", "stop_reason", "status")
"""Where providers say why an answer ended."""


class StreamBroken(Exception):
    """The stream ended before its answer did; with its usage, where that had come."""

    def __init__(self, why: str, usage: UsageMetadata | None = None) -> None:
        super().__init__(why)
        self.usage = usage


class StreamIdle(TimeoutError):
    """Nothing came for too long."""


@dataclass(frozen=True)
class Streamed:
    """A whole answer, and the provider's reason for its end."""

    message: AIMessage
    finish: str


async def gather(
    chunks: AsyncIterator[ChatGenerationChunk], *, idle_seconds: float, running_usage: bool = False
) -> Streamed:
    """Return the answer that chunks make up.

    Args:
        chunks: As LangChain's chat models stream them.
        idle_seconds: How long nothing may come, before the first chunk and between two.
        running_usage: Usage is given as a running total: the last counts. Else the parts are added.

    Raises:
        StreamBroken: no reason for the end came, or no usage.
        StreamIdle: nothing came for so long.
    """
    parts = await _collect(chunks, idle_seconds)
    finish = _finish(parts)
    messages = [p.message for p in parts if isinstance(p.message, AIMessageChunk)]
    if not messages:
        raise StreamBroken("the stream was empty")
    latest = next((m.usage_metadata for m in reversed(messages) if m.usage_metadata), None)
    if not finish:
        # Parts that are added up may lack some.
        raise StreamBroken("the stream ended before its answer did", latest if running_usage else None)
    whole = add_ai_message_chunks(messages[0], *messages[1:])
    usage = latest if running_usage else whole.usage_metadata
    if usage is None:
        raise StreamBroken("the stream ended without its usage")
    return Streamed(_message(whole, usage), finish)


async def _collect(
    chunks: AsyncIterator[ChatGenerationChunk], idle_seconds: float
) -> list[ChatGenerationChunk]:
    loop = asyncio.get_running_loop()
    parts: list[ChatGenerationChunk] = []
    timer = asyncio.timeout(idle_seconds)
    try:
        async with aclosing(cast("AsyncGenerator[ChatGenerationChunk]", chunks)), timer:
            async for chunk in chunks:
                parts.append(chunk)
                timer.reschedule(loop.time() + idle_seconds)
    except TimeoutError as error:
        if timer.expired():
            raise StreamIdle(f"nothing came for {idle_seconds:g} s") from error
        raise
    return parts


def _finish(parts: Sequence[ChatGenerationChunk]) -> str:
    for part in reversed(parts):
        found = reason_in({**part.message.response_metadata, **(part.generation_info or {})})
        if found:
            return found
    return ""


def reason_in(about: Mapping[str, Any]) -> str:
    """Return the reason for an answer's end in what a provider says of it; empty where there is none.

    Google answers a prompt that it does not take with feedback and nothing else.
    """
    for name in ENDINGS:
        if about.get(name):
            return str(about[name])
    feedback = about.get("prompt_feedback")
    is_blocked = isinstance(feedback, Mapping) and feedback.get("block_reason")
    return "content_filter" if is_blocked else ""


def _message(whole: AIMessageChunk, usage: UsageMetadata) -> AIMessage:
    """Return the message. LangChain's own reading of pieces takes half of a call's arguments for all."""
    calls, broken = [], []
    for piece in whole.tool_call_chunks:
        name, text = piece["name"] or "", piece["args"] or ""
        args = _arguments(text)
        if args is None:
            broken.append(invalid_tool_call(name=name, args=text, id=piece["id"], error="it is not JSON"))
        else:
            calls.append(tool_call(name=name, args=args, id=piece["id"]))
    return AIMessage(
        content=_content(whole.content, {c["id"]: c["args"] for c in calls}),
        tool_calls=calls,
        invalid_tool_calls=broken,
        additional_kwargs={k: v for k, v in whole.additional_kwargs.items() if k != "tool_calls"},
        response_metadata=whole.response_metadata,
        usage_metadata=usage,
    )


def _arguments(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _content(content: str | list[Any], arguments: dict[Any, dict[str, Any]]) -> str | list[Any]:
    """Return content as it comes in one piece: a tool's block holds its arguments, not their text."""
    if isinstance(content, str):
        return content
    blocks: list[Any] = []
    for block in content:
        if isinstance(block, dict) and block.get("type") == "tool_use":
            plain = {k: v for k, v in block.items() if k not in ("partial_json", "index")}
            blocks.append({**plain, "input": arguments.get(block.get("id"), {})})
        else:
            blocks.append(block)
    return blocks
