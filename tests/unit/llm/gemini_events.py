"""What Google's Gemini API answers: `generateContent` in one piece, `streamGenerateContent` as events.

The forms are those of its reference (https://ai.google.dev/api/generate-content); counts of tokens are
running totals, and those of the answer come late.
"""

from __future__ import annotations

import json
from typing import Any

from tests.unit.llm.server import Reply

RETRY = "type.googleapis.com/google.rpc.RetryInfo"
INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def counts(read: int, written: int, *, cached: int = 0, thoughts: int = 0) -> dict[str, Any]:
    """Return the counts of a whole answer; thoughts are beside what was written."""
    found: dict[str, Any] = {"promptTokenCount": read, "totalTokenCount": read + written + thoughts}
    found |= {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": read}]}
    if written:
        found["candidatesTokenCount"] = written
    if cached:
        found["cachedContentTokenCount"] = cached
    return found | ({"thoughtsTokenCount": thoughts} if thoughts else {})


def gemini(
    text: str = "",
    *,
    calls: list[tuple[str, dict[str, Any]]] | None = None,
    finish: str = "STOP",
    usage: tuple[int, int] = (100, 20),
    cached: int = 0,
    thoughts: int = 0,
) -> list[dict[str, Any]]:
    """Return the pieces of an answer with text and calls."""
    parts: list[dict[str, Any]] = [{"text": text[at : at + 7]} for at in range(0, len(text), 7)]
    for number, (name, args) in enumerate(calls or []):
        part: dict[str, Any] = {"functionCall": {"name": name, "args": args}}
        parts.append(part if number else part | {"thoughtSignature": "c2lnbmF0dXJl"})
    read, written = usage
    pieces = [{**_piece([part]), "usageMetadata": counts(read, 0, cached=cached)} for part in parts or [{}]]
    whole = counts(read, written, cached=cached, thoughts=thoughts)
    pieces[-1] |= {"usageMetadata": whole}
    pieces[-1]["candidates"][0]["finishReason"] = finish
    if not parts:
        del pieces[-1]["candidates"][0]["content"]
    return pieces


def blocked(reason: str = "SAFETY", usage: int = 9) -> list[dict[str, Any]]:
    """Return the answer to a prompt that is not taken."""
    return [
        {
            "promptFeedback": {"blockReason": reason},
            "usageMetadata": counts(usage, 0),
            "modelVersion": "gemini-test",
        }
    ]


def streamed(pieces: list[dict[str, Any]]) -> Reply:
    """Return the reply of `streamGenerateContent?alt=sse`."""
    return Reply(raw=b"".join(f"data: {json.dumps(piece)}\r\n\r\n".encode() for piece in pieces))


def whole(pieces: list[dict[str, Any]]) -> Reply:
    """Return the reply of `generateContent`."""
    last = json.loads(json.dumps(pieces[-1]))
    parts = [part for piece in pieces for part in piece["candidates"][0].get("content", {}).get("parts", [])]
    last["candidates"][0]["content"] = {"parts": parts, "role": "model"}
    return Reply(body=last)


def failed(code: int, status: str, message: str, *details: dict[str, Any]) -> Reply:
    """Return an error as Google's APIs give them."""
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return Reply(status=code, body={"error": error | ({"details": list(details)} if details else {})})


def _piece(parts: list[dict[str, Any]]) -> dict[str, Any]:
    said = {"content": {"parts": parts, "role": "model"}, "index": 0}
    return {"candidates": [said], "modelVersion": "gemini-test", "responseId": "r1"}
