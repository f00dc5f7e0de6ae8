"""Who writes: the run and its attempt, as the engine puts them into a run's configuration.

A configuration without them (a script, a test) writes unfenced.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from langchain_core.runnables import RunnableConfig

from phoenix.domain.run import ATTEMPT_KEY, RUN_KEY
from phoenix.errors import CheckpointRefused


class Claim(NamedTuple):
    """A write is accepted only while the run is running in this attempt."""

    run: bytes
    """The run's id, as PostgreSQL sends it."""
    attempt: int


def claim_of(config: RunnableConfig) -> Claim | None:
    """Return in whose name a configuration writes; None when in nobody's.

    Raises:
        CheckpointRefused: half of it is missing, or it is no id and number.
    """
    configurable = config["configurable"]
    run, attempt = configurable.get(RUN_KEY), configurable.get(ATTEMPT_KEY)
    if run is None and attempt is None:
        return None
    if not isinstance(run, str) or type(attempt) is not int:
        raise CheckpointRefused(
            f"a checkpoint's configuration says {RUN_KEY}={run!r} and {ATTEMPT_KEY}={attempt!r}.",
            hint="Give both, the run's id as text and the attempt as a number, or neither.",
        )
    return _claim(run, attempt)


@lru_cache(maxsize=8192)
def _claim(run: str, attempt: int) -> Claim:
    try:
        return Claim(UUID(run).bytes, attempt)
    except ValueError as error:
        raise CheckpointRefused(f"{run!r} is no run's id.") from error
