"""Databases and folders for sweeps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.chaos.sweep import Sweep
from tests.conftest import Databases


@pytest.fixture
async def sweep(_databases: Databases, tmp_path: Path) -> AsyncIterator[Sweep]:
    """Return a sweep with databases of its own."""
    names: list[str] = []

    async def make() -> str:
        names.append(await _databases.create_migrated())
        return _databases.url(names[-1])

    yield Sweep(make, tmp_path)
    for name in names:
        await _databases.drop(name)
