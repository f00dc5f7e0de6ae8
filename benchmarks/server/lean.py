"""A client that costs little beside the server that it measures: prepared bytes over kept connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LIMIT = 2**20


@dataclass(frozen=True)
class Answer:
    """What came back, and how many seconds it took."""

    status: int
    body: Any
    seconds: float


def post(url: str, body: Any, **headers: str) -> bytes:
    """Return a POST request with a JSON body."""
    parts = urlsplit(url)
    content = json.dumps(body).encode()
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join((*lines, "", "")).encode() + content


async def send_all(url: str, requests: Sequence[bytes], *, connections: int) -> tuple[float, list[Answer]]:
    """Send requests over so many connections; return the seconds for all, and the answers in their order."""
    parts = urlsplit(url)
    answers: list[Answer | None] = [None] * len(requests)
    left = iter(range(len(requests)))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
        try:
            for n in left:
                began = time.perf_counter()
                writer.write(requests[n])
                status, body = await _read(reader)
                answers[n] = Answer(status, body, time.perf_counter() - began)
        finally:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(connections)))
    return time.perf_counter() - began, [answer for answer in answers if answer is not None]


async def _read(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            length = int(value)
        elif name.lower() == "transfer-encoding":
            raise ValueError("an answer of unknown length")
    content = await reader.readexactly(length)
    return int(first.split(" ")[1]), json.loads(content) if content else None
