"""The least that a launch could be: a FastAPI route that checks its body and inserts one row.

Run by uvicorn; `BENCH_DATABASE` is the database.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from fastapi import FastAPI, Request
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel

TABLE = "CREATE TABLE IF NOT EXISTS bench_rows (id uuid PRIMARY KEY, requirement text NOT NULL)"
INSERT = "INSERT INTO bench_rows (id, requirement) VALUES (%s, %s)"
CONNECTION = {"autocommit": True, "prepare_threshold": 0}


class Row(BaseModel):
    """What is inserted."""

    requirement: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncConnectionPool(
        os.environ["BENCH_DATABASE"], min_size=10, max_size=10, kwargs=CONNECTION, open=False
    ) as pool:
        async with pool.connection() as connection:
            await connection.execute(TABLE)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/livez")
async def live() -> dict[str, bool]:
    return {"ok": True}


@app.post("/api/v1/projects", status_code=202)
async def insert(row: Row, request: Request) -> dict[str, str]:
    made = uuid4()
    async with request.app.state.pool.connection() as connection:
        await connection.execute(INSERT, (made, row.requirement))
    return {"id": str(made)}
