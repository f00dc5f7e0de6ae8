"""Environments that nobody uses go; one that may be in use stays."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from phoenix.sandbox.unused import mark_used, remove_unused

RECORD = "record.json"
DAY = 86_400.0


def environment(cache: Path, name: str, *, days: float) -> Path:
    """Make an environment that was last used so long ago."""
    root = cache / name
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "python").write_bytes(b"x" * 10_000)
    (root / RECORD).write_text("{}")
    then = time.time() - days * DAY
    for path in (root / RECORD, root):
        os.utime(path, (then, then))
    return root


def test_only_unused_ones_go(tmp_path: Path) -> None:
    """Age is since the last use, not since it was made; a dry run says the same and removes nothing."""
    old, young = environment(tmp_path, "old", days=31), environment(tmp_path, "young", days=29)
    used = environment(tmp_path, "used", days=400)
    mark_used(used / RECORD)
    left = environment(tmp_path, ".young-abc", days=31)
    dry = remove_unused(tmp_path, RECORD, unused_seconds=30 * DAY, dry_run=True)
    assert dry[0] == 2
    assert dry[1] >= 20_000
    assert old.exists()
    assert remove_unused(tmp_path, RECORD, unused_seconds=30 * DAY, dry_run=False) == dry
    assert not old.exists()
    assert not left.exists(), "what a killed build left"
    assert young.exists()
    assert used.exists()


def test_what_may_be_in_use_stays(tmp_path: Path) -> None:
    """Nothing younger than a day goes, nothing unfinished, and nothing whose lock is held."""
    fresh = environment(tmp_path, "fresh", days=0.9)
    building = environment(tmp_path, "building", days=2)
    (building / RECORD).unlink()
    locked = environment(tmp_path, "locked", days=2)
    with (tmp_path / "locked.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_unused(tmp_path, RECORD, unused_seconds=0, dry_run=False)
    assert fresh.exists()
    assert building.exists()
    assert locked.exists()


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_missing_cache_is_nothing(tmp_path: Path, *, there: bool) -> None:
    """A machine that never built an environment."""
    cache = tmp_path if there else tmp_path / "none"
    assert remove_unused(cache, RECORD, unused_seconds=0, dry_run=False) == (0, 0)
