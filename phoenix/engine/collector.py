"""Python's cyclic garbage collector, set for a process that runs graphs.

LangGraph makes many small objects that live for a step. With the defaults the collector walks all of them
again and again: it was the largest single cost of 1,000 concurrent runs (`benchmarks/engine_concurrency.py`).
"""

from __future__ import annotations

import gc

THRESHOLDS = (200_000, 20, 50)


def collect_rarely() -> None:
    """Leave what the process has loaded out of garbage collection; collect the rest seldom. Idempotent."""
    if gc.get_threshold() == THRESHOLDS:
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
