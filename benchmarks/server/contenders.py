"""The servers under test: how each is installed, into an environment of its own, and started."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
START_SECONDS = 90.0
STOP_SECONDS = 20.0
NEWER = (3, 12)
"""Aegra's newer releases want this Python; where none is found, pip takes the last one for ours."""


class CannotRun(Exception):
    """A contender could not be installed or started; says why."""


@dataclass(frozen=True)
class Contender:
    """One server.

    `request` is what the client posts to `path`; `named` are the packages whose versions are printed.
    """

    name: str
    packages: tuple[str, ...]
    named: tuple[str, ...]
    command: tuple[str, ...]
    health: str = "/ok"
    request: Mapping[str, object] = field(default_factory=dict)
    newer: bool = False
    is_ours: bool = False


STATELESS = {"assistant_id": "ten", "on_completion": "keep"}
"""The thread is kept: no server is asked to delete what it has just written."""

PHOENIX = Contender(
    name="phoenix",
    packages=("fastapi", "uvicorn"),
    named=("langgraph", "procrastinate", "sqlalchemy", "psycopg"),
    command=("-m", "benchmarks.server.door", "{port}"),
    is_ours=True,
)
PEERS = (
    Contender(
        name="aegra",
        packages=("aegra-api", "greenlet"),  # its releases for Python 3.11 forget greenlet
        named=("aegra-api", "langgraph"),
        command=("-m", "uvicorn", "aegra_api.main:app", "--host", "127.0.0.1", "--port", "{port}"),
        health="/health",
        request=STATELESS,
        newer=True,
    ),
    Contender(
        name="bare FastAPI",
        packages=("fastapi", "uvicorn", "langgraph", "langgraph-checkpoint-postgres", "psycopg[binary,pool]"),
        named=("fastapi", "langgraph", "langgraph-checkpoint-postgres"),
        command=(
            *("-m", "uvicorn", "bare:app", "--host", "127.0.0.1", "--port", "{port}"),
            *("--no-access-log", "--log-level", "warning"),
        ),
    ),
    Contender(
        name="langgraph dev",
        packages=("langgraph-cli[inmem]",),
        named=("langgraph-api", "langgraph-runtime-inmem", "langgraph"),
        command=("-m", "langgraph_cli", "dev", "--no-browser", "--no-reload", "--port", "{port}"),
        request=STATELESS,
    ),
)


def install(contender: Contender, folder: Path) -> Path:
    """Make a contender's environment below a folder, if it is not there, and return its Python.

    Raises:
        CannotRun: the packages cannot be installed.
    """
    place = folder / contender.name.replace(" ", "-")
    if contender.is_ours:
        if not (place / "fastapi").is_dir():
            _run(sys.executable, "-m", "pip", "install", "-q", "--target", str(place), *contender.packages)
        return Path(sys.executable)
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        _run(_interpreter(contender), "-m", "venv", "--clear", str(place))
        _run(str(python), "-m", "pip", "install", "-q", *contender.packages)
        (place / "ready").touch()
    return python


def _interpreter(contender: Contender) -> str:
    """Return a Python that is new enough, if the machine has one, else the one that runs this."""
    if not contender.newer or sys.version_info >= NEWER:
        return sys.executable
    names = [f"python3.{minor}" for minor in range(NEWER[1], NEWER[1] + 4)]
    found = [shutil.which(name) for name in names]
    kept = [str(path) for name in names for path in Path.home().glob(f".pyenv/versions/*/bin/{name}")]
    for path in [*filter(None, found), *kept]:
        if subprocess.run([path, "-c", "import venv"], capture_output=True, check=False).returncode == 0:
            return path
    return sys.executable


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"`{' '.join(command[:5])} ...` failed: {done.stderr.strip()[-800:]}")


def versions(contender: Contender, python: Path) -> str:
    """Return the versions that matter, of the contender's own environment."""
    code = (
        "import sys, importlib.metadata as m;"
        "print('Python', sys.version.split()[0], *(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    done = subprocess.run(
        [str(python), "-c", code, *contender.named], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@asynccontextmanager
async def serving(
    contender: Contender, python: Path, folder: Path, database: str
) -> AsyncIterator[tuple[str, int]]:
    """Start a server in a process of its own; yield its URL and pid, and stop it at the end.

    Raises:
        CannotRun: it does not come up; ends with its last words.
    """
    work = _work_folder(contender, folder)
    port = free_port()
    command = [part.format(port=port) for part in contender.command]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PHOENIX_", "LANG", "OTEL_"))},
        "BENCH_DATABASE": database,
        "BENCH_WEB": str(folder / contender.name),
        "DATABASE_URL": database,
        "PYTHONPATH": str(REPOSITORY if contender.is_ours else HERE),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_NO_VERSION_CHECK": "true",
    }
    with (work / "log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            str(python), *command, cwd=work, env=environment, stdout=output, stderr=output
        )
    url = f"http://127.0.0.1:{port}"
    try:
        await _healthy(process, url + contender.health, work / "log")
        yield url, process.pid
    finally:
        await _stop(process)


def _work_folder(contender: Contender, folder: Path) -> Path:
    """Make the folder a server runs in, with the configuration that its documentation asks for."""
    work = folder / f"{contender.name.replace(' ', '-')}-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    graphs = {"graphs": {"ten": "./graph.py:graph"}, "dependencies": ["."]}
    shutil.copy(HERE / "graph.py", work / "graph.py")
    for name in ("aegra.json", "langgraph.json"):
        (work / name).write_text(json.dumps(graphs))
    return work


async def _healthy(process: asyncio.subprocess.Process, url: str, output: Path) -> None:
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    async with httpx.AsyncClient(timeout=5) as client:
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            try:
                if (await client.get(url)).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.2)
    words = await asyncio.to_thread(output.read_text, errors="replace")
    how = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
    raise CannotRun(f"its server {how}: {words[-1500:]}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
