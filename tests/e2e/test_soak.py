"""Projects whose model fails three times in ten end well all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS
from tests.e2e.soak import impatient, soak


async def test_projects_survive_a_model_that_fails_by_rate(settings: Settings, tmp_path: Path) -> None:
    """Each is delivered or fails with a reason, nothing partial is kept, and no budget is passed."""
    async with asyncio.timeout(4 * LONGEST_SECONDS):
        found = await soak(impatient(settings), tmp_path, projects=2, seed=3)
    assert not found.lost
    assert found.delivered, found.failed
    assert not found.partial
    assert not found.over_budget
    assert found.injected.total() >= 5
    assert found.committed
