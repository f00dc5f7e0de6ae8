"""Waiting for file descriptors without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import select


async def readable(fd: int, seconds: float) -> bool:
    """Wait until the descriptor can be read, or for a pidfd until its process has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if poll.poll(0):
        return True
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


async def read_to_end(fd: int, seconds: float) -> bytes:
    """Return all that is written until the other side closes, or says nothing for so long."""
    data = b""
    while await readable(fd, seconds):
        piece = os.read(fd, 4096)
        if not piece:
            break
        data += piece
    return data
