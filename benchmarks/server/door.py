"""Phoenix behind the smallest door: a run is launched, worked on over the queue, and its end waited for.

The launch is the product's transaction and the worker the product's, both in this one process. The web
framework comes from a folder of the peers, after everything that Phoenix brings itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

sys.path.append(os.environ["BENCH_WEB"])

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from phoenix.bootstrap import System, open_system
from phoenix.engine.launch import Launch
from phoenix.flow import Step, step
from phoenix.settings import Settings
from phoenix.telemetry.logs import configure_logs

STEPS = 10


seen: dict[int, float] = {}
"""When the first step began, by the input of those runs for which that is asked."""


async def add_one(value: int) -> int:
    if value in seen:
        seen[value] = time.perf_counter()
    return value + 1


def flow() -> Any:
    """Return ten steps, each adding one."""
    steps: list[Step[int, int]] = [step(name=f"step{n}")(add_one) for n in range(STEPS)]
    pipeline: Any = steps[0]
    for one in steps[1:]:
        pipeline = pipeline >> one
    return pipeline


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    configure_logs()
    with TemporaryDirectory() as home:
        settings = Settings(
            home=Path(home),
            database_url=SecretStr(os.environ["BENCH_DATABASE"]),
            concurrency=int(os.environ.get("BENCH_CONCURRENCY", "10")),
        )
        async with (
            open_system(settings, execution=False, flows={"ten": flow()}) as system,
            system.engine.worker(),
        ):
            app.state.system = system
            yield


app = FastAPI(lifespan=lifespan)


@app.get("/ok")
async def ok() -> dict[str, bool]:
    return {"ok": True}


@app.post("/runs/wait")
async def run(body: dict[str, Any]) -> dict[str, Any]:
    system: System = app.state.system
    launch = Launch(requirement="Count to ten.", model="", flow="ten", input=body["input"]["value"])
    return cast("dict[str, Any]", (await system.engine.complete(launch)).output)


@app.post("/first-step")
async def first_step(body: dict[str, Any]) -> float:
    """Run like the others, and return the milliseconds from the launch to the first step's function."""
    value = body["input"]["value"]
    seen[value] = 0.0
    began = time.perf_counter()
    await run(body)
    return (seen.pop(value) - began) * 1000


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
