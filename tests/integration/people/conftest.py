"""Worker processes that are killed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
Working = Callable[[str], AbstractAsyncContextManager[asyncio.subprocess.Process]]


@pytest.fixture
def working(migrated_database_url: str, tmp_path: Path) -> Working:
    """Return what runs a worker with a script in a process, killed at the end."""

    @asynccontextmanager
    async def run(script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        module = "tests.integration.people.coder_process"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, migrated_database_url, str(tmp_path), script, cwd=ROOT
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return run
