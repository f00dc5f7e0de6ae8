"""Reading server-sent events.

httpx's own lines end at every character that Python takes for the end of one, such as U+2028, which JSON
may hold; those of this protocol do not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator

from phoenix.errors import ServiceFailed

MAX_BYTES = 64 * 1024 * 1024
"""No event is near it: what sends more without an end is no stream of events."""


async def payloads(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the data of each event; empty for a comment, which says that the stream lives.

    Raises:
        ServiceFailed: something comes without an end.
    """
    rest, data = b"", list[bytes]()
    async for chunk in chunks:
        # A line that ends with \r\n may be cut between the two.
        rest += chunk
        *lines, rest = rest.replace(b"\r\n", b"\n").split(b"\n")
        if len(rest) > MAX_BYTES:
            raise ServiceFailed("The stream of events is none: a line has no end.")
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line.removeprefix(b"data:").removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
            elif line.startswith(b":"):
                yield b""
