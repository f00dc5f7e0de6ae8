"""The world outside Phoenix: a server that sells model calls and takes in effects, and counts both."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.ledger import attempt


@dataclass
class Call:
    """One request for a model's answer. It has arrived once the caller has read all of it and said so."""

    asked_at: float
    pid: int
    attempt: int
    arrived_at: float | None = None


@dataclass
class Work:
    """What came in for one workflow: model calls by their name, and how often effects came, by key."""

    calls: dict[str, list[Call]] = field(default_factory=lambda: defaultdict(list))
    effects: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def as_json(self) -> dict[str, Any]:
        calls = {name: [asdict(call) for call in made] for name, made in self.calls.items()}
        return {"calls": calls, "effects": dict(self.effects)}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Work:
        calls = {name: [Call(**call) for call in made] for name, made in found["calls"].items()}
        return cls(calls, found["effects"])


class Outside:
    """Answers on a unix socket, a line for a line. `seconds` is how long a model takes to answer."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.works: dict[str, Work] = defaultdict(Work)
        self.seconds = seconds

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        try:
            while line := await reader.readline():
                await self._one(json.loads(line), reader, writer)
        except (ConnectionError, json.JSONDecodeError):
            return
        finally:
            writer.close()

    async def _one(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        work = self.works[asked["work"]]
        match asked["what"]:
            case "model":
                call = Call(time.time(), asked["pid"], asked["attempt"])
                work.calls[asked["name"]].append(call)
                await asyncio.sleep(self.seconds)
                await _say(writer, {})
                if await reader.readline():
                    call.arrived_at = time.time()
            case "effect":
                # A receiver that keeps its promise does a thing once for each key.
                work.effects[asked["name"]] += 1
                await _say(writer, {})
            case "report":
                await _say(writer, work.as_json())


async def _say(writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
    writer.write(json.dumps(answer).encode() + b"\n")
    await writer.drain()


@asynccontextmanager
async def outside(socket: Path, *, seconds: float = 0.0) -> AsyncIterator[Outside]:
    """Serve on a socket until the body ends."""
    world = Outside(seconds)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(world.handle(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_unix_server(accept, socket, limit=2**24)
    try:
        yield world
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def ask(socket: str, what: str, work: str, name: str = "") -> dict[str, Any]:
    """Ask the world outside for something, and return its answer once it has arrived."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=2**24)
    try:
        who = {"pid": os.getpid(), "attempt": attempt()}
        await _say(writer, {"what": what, "work": work, "name": name, **who})
        line = await reader.readline()
        if not line:
            raise ConnectionError("the world outside hung up")
        writer.write(b"\n")
        await writer.drain()
        return dict(json.loads(line))
    finally:
        writer.close()
