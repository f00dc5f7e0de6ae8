"""An OpenAI-compatible server in this process: it answers by script and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """What one request gets. `cut` sends only so many bytes of the body, then hangs up."""

    content: str | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Tool calls as name and raw arguments."""
    finish: str = ""
    refusal: str | None = None
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    cut: int | None = None
    stalls: int | None = None
    """Sends so many pieces of a stream, and then nothing more."""
    step: int = 7
    """Characters in a piece of a stream."""
    raw: bytes | None = None
    """A stream's events as they are sent."""
    drip_seconds: float = 0.0
    """Between the pieces of a stream."""
    usage: tuple[int, int] = (100, 20)
    cached: int = 0
    """Tokens of the input that were in the provider's cache."""
    written: int = 0
    """Tokens of the input that it has put there."""

    def payload(self) -> Any:
        if self.body is not None:
            return self.body
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.refusal:
            message["refusal"] = self.refusal
        if self.calls:
            message["tool_calls"] = [
                {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": raw}}
                for n, (name, raw) in enumerate(self.calls)
            ]
        finish = self.finish or ("tool_calls" if self.calls else "stop")
        read, written = self.usage
        usage: dict[str, Any] = {"prompt_tokens": read, "completion_tokens": written}
        usage["total_tokens"] = read + written
        if self.cached or self.written:
            details = {"cached_tokens": self.cached, "cache_write_tokens": self.written}
            usage["prompt_tokens_details"] = details
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "test",
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": usage,
        }

    def pieces(self) -> list[bytes]:
        """Return the answer as the events of a stream."""
        if self.raw is not None:
            return [self.raw]
        whole = self.payload()
        if self.body is not None:
            return [f"data: {json.dumps(whole)}\n\n".encode(), b"data: [DONE]\n\n"]
        (choice,) = whole["choices"]
        message, finish = choice["message"], choice["finish_reason"]
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if message.get("refusal"):
            deltas.append({"refusal": message["refusal"]})
        text = message["content"] or ""
        deltas += [{"content": text[at : at + self.step]} for at in range(0, len(text), self.step)]
        for index, call in enumerate(message.get("tool_calls", ())):
            raw = call["function"]["arguments"]
            begin = {"name": call["function"]["name"], "arguments": ""}
            deltas.append({"tool_calls": [{"index": index, **call, "function": begin}]})
            for at in range(0, len(raw), self.step):
                more = {"index": index, "function": {"arguments": raw[at : at + self.step]}}
                deltas.append({"tool_calls": [more]})
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test"}
        events: list[dict[str, Any]] = [
            {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
        ]
        events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        events.append({**head, "choices": [], "usage": whole["usage"]})
        return [*(f"data: {json.dumps(event)}\n\n".encode() for event in events), b"data: [DONE]\n\n"]


def error(status: int, message: str = "simulated", code: str | None = None, **headers: str) -> Reply:
    """Return an error reply; underscores in header names become hyphens."""
    body = {"error": {"message": message, "type": "error", "code": code}}
    return Reply(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


class Server:
    """Replies in order; the last one is repeated. `models` is what /models lists."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.choose: Callable[[dict[str, Any]], Reply] | None = None
        """Replies by request instead of in order."""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.models: list[str] | None = ["test"]
        self.url = ""
        self.streams = True
        """Answer in pieces where that is asked for; without it in one piece all the same."""
        self.refuse = False
        """Refuse the key when /models is asked."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.headers.append(headers)
            method, path, _ = head[0].split()
            await self._reply(writer, method, path, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _reply(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> None:
        if method == "GET":
            key = "models" if path == "/api/tags" else "data"
            rows = [{"id": m, "name": m} for m in self.models or []]
            status = 401 if self.refuse else 200 if self.models is not None else 404
            await self._send(writer, Reply(status=status, body={key: rows}))
            return
        self.requests.append(json.loads(body))
        self.paths.append(path)
        asked = self.requests[-1]
        if self.choose is not None:
            reply = self.choose(asked)
        else:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply.hang:
            await asyncio.sleep(3600)
        wants_pieces = asked.get("stream") or ":streamGenerateContent" in path
        if self.streams and wants_pieces and reply.status == 200:
            await self._stream(writer, reply)
        else:
            await self._send(writer, reply)

    async def _stream(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        lines = ["HTTP/1.1 200 X", "Content-Type: text/event-stream", "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode())
        left = reply.cut
        for number, piece in enumerate(reply.pieces()):
            if number == reply.stalls:
                await asyncio.sleep(3600)
            writer.write(piece[:left])
            await writer.drain()
            if left is not None:
                left = max(0, left - len(piece))
            if reply.drip_seconds:
                await asyncio.sleep(reply.drip_seconds)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        data = json.dumps(reply.payload()).encode()
        lines = [f"HTTP/1.1 {reply.status} X", "Content-Type: application/json", "Connection: close"]
        lines += [f"Content-Length: {len(data)}", *(f"{k}: {v}" for k, v in reply.headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data[: reply.cut])
        await writer.drain()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Run a server on a free port."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
