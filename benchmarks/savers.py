"""What the engine's benchmarks share: a server, runs to write for, graphs, and the savers to compare."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

from phoenix.checkpoints.saver import Checkpointer, open_saver
from phoenix.domain.run import ATTEMPT_KEY, RUN_KEY
from phoenix.storage.bounded import connect_bounded
from phoenix.storage.database import conninfo
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.migrate import upgrade

DEFAULT_THRESHOLDS = (700, 10, 10)


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    """Return the URL of the server given, or of one started for the measurement with durable defaults."""
    given = os.environ.get("PHOENIX_TEST_DATABASE_URL", "")
    if given:
        yield given
        return
    with TemporaryDirectory() as folder:
        async with EmbeddedPostgres(Path(folder)) as url:
            yield url


@asynccontextmanager
async def database(server_url: str) -> AsyncIterator[str]:
    """Return the URL of a fresh database with Phoenix's schema; it is dropped at the end."""
    name = f"bench_{uuid4().hex}"
    async with await psycopg.AsyncConnection.connect(conninfo(server_url), autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    url = conninfo(urlunsplit(urlsplit(server_url)._replace(path=f"/{name}")))
    try:
        await upgrade(url)
        yield url
    finally:
        async with await psycopg.AsyncConnection.connect(conninfo(server_url), autocommit=True) as connection:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def no_saver(_url: str) -> AsyncIterator[None]:
    """Give nothing: the same graph without checkpoints."""
    yield None


@asynccontextmanager
async def stock(url: str) -> AsyncIterator[AsyncPostgresSaver]:
    """Give LangGraph's own saver, as its documentation opens it, on the tables of its own setup."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "DROP TABLE checkpoint_migrations, checkpoints, checkpoint_blobs, checkpoint_writes"
        )
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        yield saver


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Any]:
    """Give Phoenix's checkpointer as the engine opens it."""
    async with open_saver(url, connect=connect_bounded) as saver:
        yield saver


class Nothing(BaseCheckpointSaver[str]):
    """Stores nothing and answers at the next turn of the event loop: no saver that waits can be faster.

    What is left is what LangGraph itself does for a saver.
    """

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Forget a checkpoint."""
        await asyncio.sleep(0)
        thread = {"thread_id": config["configurable"]["thread_id"], "checkpoint_ns": ""}
        return {"configurable": {**thread, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Forget writes."""
        await asyncio.sleep(0)

    async def aget_tuple(self, config: RunnableConfig) -> None:
        """Find nothing."""
        await asyncio.sleep(0)

    get_next_version = Checkpointer.get_next_version


@asynccontextmanager
async def nothing(_url: str) -> AsyncIterator[Nothing]:
    """Give a saver that stores nothing."""
    yield Nothing()


SAVERS: dict[str, Any] = {"none": no_saver, "nothing": nothing, "stock": stock, "phoenix": ours}


async def running_runs(url: str, count: int) -> list[UUID]:
    """Insert runs that are running in their first attempt, as workers leave them, and return their ids."""
    ids = [uuid4() for _ in range(count)]
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(
            "INSERT INTO projects (id, title, requirement, model, approvals, path)"
            " SELECT id, 't', 'r', 'm', 'all', 'full' FROM unnest(%s::uuid[]) AS id",
            [ids],
        )
        await connection.execute(
            "INSERT INTO runs (id, project_id, flow, status, attempt, input)"
            " SELECT id, id, 'f', 'running', 1, '{}' FROM unnest(%s::uuid[]) AS id",
            [ids],
        )
    return ids


def config_of(run_id: UUID) -> dict[str, Any]:
    """Return a run's configuration as the engine makes it."""
    return {"configurable": {"thread_id": str(run_id), RUN_KEY: str(run_id), ATTEMPT_KEY: 1}}


class State(TypedDict):
    """A state of one small value and one structured one."""

    n: int
    found: dict[str, Any]


def chain(steps: int, waits: Sequence[float], saver: Any) -> Any:
    """Return a graph of steps one after the other, each of which waits so long (in seconds)."""
    graph = StateGraph(State)

    def waiting(seconds: float) -> Any:
        async def node(state: State) -> dict[str, Any]:
            if seconds:
                await asyncio.sleep(seconds)
            return {"n": state["n"] + 1, "found": {"n": state["n"], "text": "something"}}

        return node

    previous = START
    for n in range(steps):
        graph.add_node(f"step{n}", waiting(waits[n % len(waits)]))
        graph.add_edge(previous, f"step{n}")
        previous = f"step{n}"
    graph.add_edge(previous, END)
    return graph.compile(checkpointer=saver).with_config({"recursion_limit": steps + 10})


def set_collector(*, tuned: bool) -> None:
    """Set Python's garbage collector as a worker of Phoenix has it, or as Python ships it."""
    from phoenix.engine.collector import THRESHOLDS

    gc.unfreeze()
    gc.collect()
    if tuned:
        gc.freeze()
    gc.set_threshold(*(THRESHOLDS if tuned else DEFAULT_THRESHOLDS))


async def commits(url: str) -> int:
    """Return how many transactions were committed in a database so far."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        row = await (
            await connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            )
        ).fetchone()
    return int(row[0]) if row else 0
