"""Runs to write for, and checkpoints to write."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import psycopg
from langgraph.checkpoint.base import empty_checkpoint

from phoenix.domain.run import ATTEMPT_KEY, RUN_KEY


async def execute(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own and return its rows."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(statement, values)
        return await cursor.fetchall() if cursor.description else []


async def a_run(url: str, *, attempt: int = 1, status: str = "running") -> UUID:
    """Insert a run and return its id."""
    run_id = uuid4()
    await execute(
        url,
        "INSERT INTO projects (id, title, requirement, model, approvals, path)"
        " VALUES (%s, 't', 'r', 'm', 'all', 'full')",
        run_id,
    )
    await execute(
        url,
        "INSERT INTO runs (id, project_id, flow, status, attempt, input) VALUES (%s, %s, 'f', %s, %s, '{}')",
        *(run_id, run_id, status, attempt),
    )
    return run_id


async def supersede(url: str, run_id: UUID) -> None:
    """Let another attempt take the run over."""
    await execute(url, "UPDATE runs SET attempt = attempt + 1 WHERE id = %s", run_id)


def of(run_id: UUID, attempt: int = 1) -> Any:
    """Return the configuration of a run's attempt."""
    fence = {RUN_KEY: str(run_id), ATTEMPT_KEY: attempt}
    return {"configurable": {"thread_id": str(run_id), "checkpoint_ns": "", **fence}}


def unfenced() -> Any:
    """Return the configuration of a thread that no run owns."""
    return {"configurable": {"thread_id": uuid4().hex, "checkpoint_ns": ""}}


def point(**values: Any) -> Any:
    """Return a checkpoint of these channels, each at version 1."""
    versions = dict.fromkeys(values, "1")
    return {**empty_checkpoint(), "v": 4, "channel_values": values, "channel_versions": versions}


async def put(saver: Any, config: Any, **values: Any) -> Any:
    """Store a checkpoint of these channels."""
    made = point(**values)
    return await saver.aput(config, made, {"source": "loop", "step": 0}, made["channel_versions"])
