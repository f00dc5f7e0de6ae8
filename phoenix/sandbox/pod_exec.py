"""Conversations with a script in a container, over the exec call of the cluster's API."""

from __future__ import annotations

import asyncio
import json
import struct
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from phoenix.errors import SandboxUnavailable
from phoenix.sandbox.pods import HINT, Pods

STDIN, STDOUT, STDERR, STATUS = range(4)
"""Channels of the subprotocol v4.channel.k8s.io; each frame begins with one."""
FRAME_BYTES = 64 * 1024
MEMORY_BYTES = 4 * 1024**2
"""What a larger answer is kept in is a file."""
SAID_BYTES = 16 * 1024
BOOT = (
    "import sys\nf=sys.stdin.buffer.raw\nn=int(f.readline())\ns=b''\n"
    "while len(s)<n: s+=f.read(n-len(s)) or sys.exit(1)\n"
    "exec(compile(s,'phoenix','exec'),{'__name__':'__phoenix__'})"
)


@asynccontextmanager
async def conversation(pods: Pods, pod: str, container: str) -> AsyncIterator[Conversation]:
    """Start a script's interpreter in a container; it is cut off at the end.

    Raises:
        SandboxUnavailable: the cluster refuses.
    """
    import aiohttp

    asked = await pods.sockets.connect_get_namespaced_pod_exec(
        pod,
        pods.options.namespace,
        command=["python3", "-I", "-c", BOOT],
        container=container,
        stdin=True,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    try:
        async with asked as socket:
            talk = Conversation(socket)
            try:
                yield talk
            finally:
                talk.close()
    except (aiohttp.ClientError, OSError) as error:
        raise SandboxUnavailable(f"The pod {pod} cannot be spoken to: {error}", hint=HINT) from error


class Conversation:
    """One script that is told what to do, and answers once."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._answer: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - closed with it
        self._said = bytearray()

    async def say(self, script: Path, request: dict[str, Any], body: IO[bytes] | None = None) -> None:
        """Send a script, one line of JSON, and bytes that follow it."""
        source = await asyncio.to_thread(script.read_bytes)
        await self._send(b"%d\n%s%s\n" % (len(source), source, json.dumps(request).encode()))
        while body is not None and (piece := await asyncio.to_thread(body.read, FRAME_BYTES)):
            await self._send(piece)

    def close(self) -> None:
        """Let go of the answer."""
        self._answer.close()

    async def interrupt(self) -> None:
        """Tell a script that runs a command to end it."""
        if not self._socket.closed:
            await self._send(b"q")

    async def _send(self, data: bytes) -> None:
        for start in range(0, len(data), FRAME_BYTES):
            await self._socket.send_bytes(bytes([STDIN]) + data[start : start + FRAME_BYTES])

    async def answer(self, *, most_bytes: int) -> tuple[dict[str, Any], IO[bytes]]:
        """Return the script's answer, once it has ended: a JSON object, and the bytes after it.

        These can be read until the conversation ends.

        Raises:
            SandboxUnavailable: it ended without one, or with more than so many bytes.
        """
        total = 0
        status = ""
        async for message in self._socket:
            if not isinstance(message.data, str | bytes):
                break
            data = message.data.encode() if isinstance(message.data, str) else message.data
            channel, data = data[0] if data else STDOUT, data[1:]
            if channel == STDOUT:
                total += len(data)
                if total > most_bytes:
                    raise SandboxUnavailable(f"The sandbox answered with more than {most_bytes} bytes.")
                self._answer.write(data)
            elif channel == STDERR:
                self._said += data[: SAID_BYTES - len(self._said)]
            elif channel == STATUS:
                status = data.decode("utf-8", "replace")
        return await asyncio.to_thread(self._parsed, status)

    def _parsed(self, status: str) -> tuple[dict[str, Any], IO[bytes]]:
        self._answer.seek(0)
        head = self._answer.read(4)
        data = self._answer.read(struct.unpack(">I", head)[0]) if len(head) == 4 else b""
        try:
            value = json.loads(data)
        except ValueError as error:
            said = (self._said.decode("utf-8", "replace").strip() or status)[-1000:]
            raise SandboxUnavailable(
                f"The pod's script ended without an answer: {said}", hint=HINT
            ) from error
        return dict(value), self._answer
