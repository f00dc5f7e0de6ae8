"""The ways to start: `python -m phoenix.main` beside its services, and the image's processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from httpx import AsyncClient
from redis.asyncio import Redis

from phoenix.settings import Settings
from tests.e2e.test_up import up
from tests.redis_server import RedisServer, running_redis

ENTRYPOINT = Path(__file__).parents[2] / "docker" / "entrypoint.sh"
LONGEST_SECONDS = 120.0


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """Return a running Redis; CI has the program, other machines may not."""
    async with running_redis(tmp_path) as server:
        yield server


async def test_the_classic_start(settings: Settings, redis: RedisServer) -> None:
    """With DATABASE_URL and REDIS_URL it serves and works, migrated, and counts requests in Redis."""
    async with asyncio.timeout(LONGEST_SECONDS), up(settings, REDIS_URL=redis.url) as service:
        async with AsyncClient(base_url=service.url, headers={"X-API-Key": service.key}) as http:
            assert (await http.get("/api/v1/auth/me")).json()["role"] == "admin"
            while (await http.get("/readyz")).json()["workers"] != 1:
                await asyncio.sleep(0.05)
        async with Redis.from_url(redis.url) as client:
            assert await client.dbsize() > 0
    assert service.process.returncode == 0


@asynccontextmanager
async def started(
    *arguments: str, environment: dict[str, str], until: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Run a process of the image until it says something; yield both; stop it as Compose does."""
    process = await asyncio.create_subprocess_exec(
        str(ENTRYPOINT), *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = ""
    try:
        while (found := re.search(until, said)) is None:
            line = await process.stderr.readline()
            assert line, said
            said += line.decode()
        reading = asyncio.create_task(process.stderr.read())
        yield process, found[1]
        process.send_signal(signal.SIGTERM)
        await process.wait()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_the_processes_of_the_image(database_url: str, redis: RedisServer, tmp_path: Path) -> None:
    """Migrated by one, served by a second that does not work, and worked on by a third with its probes."""
    program = tmp_path / "bin" / "phoenix"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m phoenix "$@"\n')
    program.chmod(0o755)
    secret = tmp_path / "database_url"
    secret.write_text(database_url + "\n")
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PHOENIX_HOME": str(tmp_path / "home"),
        "PHOENIX_AUTO_MIGRATE": "false",
        "PHOENIX_PORT": "0",
        "DATABASE_URL_FILE": str(secret),
        "REDIS_URL": redis.url,
    }

    async def migrate(*arguments: str) -> int:
        done = await asyncio.create_subprocess_exec(
            *(str(ENTRYPOINT), "migrate", *arguments), env=environment, stdout=asyncio.subprocess.DEVNULL
        )
        return await done.wait()

    async with asyncio.timeout(LONGEST_SECONDS):
        assert await migrate("--check") == 1
        assert await migrate() == 0
        serving = environment | {"PHOENIX_WORK": "false"}
        async with (
            started("serve", environment=serving, until=r"serving (http://\S+)") as (service, url),
            started(*("worker", "--probe-port", "0"), environment=environment, until=r"on port (\d+)") as (
                worker,
                port,
            ),
            AsyncClient() as http,
        ):
            while (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            assert (await http.get(f"{url}/readyz")).json()["workers"] == 1
        assert (service.returncode, worker.returncode) == (0, 0)
