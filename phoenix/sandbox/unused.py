"""Environments that nobody has used for long."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

LEAST_SECONDS = 86_400.0
"""A younger one may be in use: a run asks for its environment when a step begins."""


def mark_used(record: Path) -> None:
    """Note that an environment is used now."""
    os.utime(record)


def remove_unused(cache: Path, record: str, *, unused_seconds: float, dry_run: bool) -> tuple[int, int]:
    """Remove environments that were not used for so long; return how many and their bytes.

    Args:
        cache: The folder of all environments.
        record: The file in each whose time says when it was last used.
        unused_seconds: How long; a day at least.
        dry_run: Remove nothing.
    """
    before = time.time() - max(unused_seconds, LEAST_SECONDS)
    count = size = 0
    for root in sorted(cache.iterdir()) if cache.is_dir() else ():
        # What begins with a dot is what a killed build left.
        if not root.is_dir() or not _is_older(root if root.name.startswith(".") else root / record, before):
            continue
        count += 1
        size += _size(root)
        if not dry_run:
            _remove(root, cache, record, before)
    return count, size


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False  # it is being built


def _remove(root: Path, cache: Path, record: str, before: float) -> None:
    name = root.name.lstrip(".").split("-")[0]
    with (cache / f"{name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # it is being built
        if not root.name.startswith("."):
            if not _is_older(root / record, before):
                return
            # Without its record it counts as not there, wherever the removal is cut.
            (root / record).unlink()
        shutil.rmtree(root)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
