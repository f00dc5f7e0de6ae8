"""A worker in a process of its own: arguments are the database's URL, the folder of marks, and how many
runs it works on at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.engine.engine_toy import open_system


async def work_for_ever(url: str, folder: Path, concurrency: int) -> None:
    """Work until killed."""
    async with open_system(url, folder, concurrency=concurrency) as system:
        await system.engine.work()


if __name__ == "__main__":
    asyncio.run(work_for_ever(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
