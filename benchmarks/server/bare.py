"""The smallest server that keeps checkpoints: FastAPI runs the graph inline, with LangGraph's own saver.

Everything is as the documentation of AsyncPostgresSaver shows it, with a pool as large as the client needs.
Run by uvicorn in a peer's environment; `BENCH_DATABASE` is the database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from graph import build
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

CONNECTION: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncConnectionPool(
        os.environ["BENCH_DATABASE"], min_size=10, max_size=10, kwargs=CONNECTION, open=False
    ) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        app.state.graph = build().compile(checkpointer=saver)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ok")
async def ok() -> dict[str, bool]:
    return {"ok": True}


@app.post("/runs/wait")
async def run(body: dict[str, Any]) -> dict[str, Any]:
    config = {"configurable": {"thread_id": str(uuid4())}}
    done: dict[str, Any] = await app.state.graph.ainvoke(body["input"], config)
    return done
