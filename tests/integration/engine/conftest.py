"""A running system for the tests of the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.engine.engine_toy import System, open_system


@pytest.fixture
async def system(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """Return a system whose worker does not run yet."""
    async with open_system(migrated_database_url, tmp_path) as opened:
        yield opened
