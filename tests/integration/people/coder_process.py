"""A worker in a process of its own: arguments are the database's URL, the folder, and the script's name."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.people.coder_world import SCRIPTS, open_world


async def work_for_ever(url: str, folder: Path, script: str) -> None:
    """Work until killed."""
    async with open_world(url, folder, SCRIPTS[script]) as system:
        await system.engine.work()


if __name__ == "__main__":
    asyncio.run(work_for_ever(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
