"""The events of OpenAI's Responses API, as its server streams them."""

from __future__ import annotations

import json
from typing import Any


def responses_events(
    text: str,
    *,
    call: tuple[str, str] | None = None,
    usage: tuple[int, int] = (100, 20),
    cached: int = 0,
    put: int = 0,
) -> list[bytes]:
    """Return the events of an answer with text, and one call of a tool as name and raw arguments."""
    read, written = usage
    whole: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "test"}
    whole |= {"status": "in_progress", "output": [], "parallel_tool_calls": True, "tools": []}
    whole |= {"tool_choice": "auto", "error": None, "incomplete_details": None, "usage": None}
    said = {"type": "output_text", "text": text, "annotations": []}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [said],
    }
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    data: list[dict[str, Any]] = [
        {"type": "response.created", "response": whole},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": message | {"content": [], "status": "in_progress"},
        },
        {"type": "response.content_part.added", **at, "part": said | {"text": ""}},
    ]
    data += [
        {"type": "response.output_text.delta", **at, "delta": text[n : n + 7], "logprobs": []}
        for n in range(0, len(text), 7)
    ]
    data += [
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": said},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
    ]
    output: list[dict[str, Any]] = [message]
    if call is not None:
        name, arguments = call
        item = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": name}
        item |= {"arguments": arguments, "status": "completed"}
        place = {"item_id": "fc_1", "output_index": 1}
        begun = item | {"arguments": "", "status": "in_progress"}
        data.append({"type": "response.output_item.added", "output_index": 1, "item": begun})
        data += [
            {
                "type": "response.function_call_arguments.delta",
                **place,
                "delta": arguments[n : n + 7],
            }
            for n in range(0, len(arguments), 7)
        ]
        data.append({"type": "response.function_call_arguments.done", **place, "arguments": arguments})
        data.append({"type": "response.output_item.done", "output_index": 1, "item": item})
        output.append(item)
    counted = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    counted |= {"input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": put}}  # type: ignore[dict-item]
    counted |= {"output_tokens_details": {"reasoning_tokens": 0}}  # type: ignore[dict-item]
    ended = whole | {"status": "completed", "output": output, "usage": counted}
    data.append({"type": "response.completed", "response": ended})
    numbered = [event | {"sequence_number": n} for n, event in enumerate(data)]
    return [f"event: {d['type']}\ndata: {json.dumps(d)}\n\n".encode() for d in numbered]
