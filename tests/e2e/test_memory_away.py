"""Projects are delivered while Chroma is broken or gone, and say so; a rebuild makes all as before."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.bootstrap import System
from phoenix.domain.identity import Principal
from phoenix.domain.memory import MemoryQuery
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.memories import Rebuilt, Searched
from phoenix.engine.work import open_work
from phoenix.llm.calls import ModelRequest
from phoenix.llm.scripted import Line, ScriptedModel
from phoenix.settings import Settings
from phoenix.storage import tenancy
from tests.e2e.conftest import Result, system_of
from tests.e2e.script import script
from tests.e2e.test_lessons import written
from tests.e2e.test_memory import played, remembering

LESSON = "Symptom: add of the calculator is wrong. Cause: a minus sign. Fix: test add with 2 and 2."
ASKED = "a calculator that adds numbers"


async def ada(connection: AsyncConnection) -> Principal:
    """Return an administrator."""
    await tenancy.enter(connection, DEFAULT_ORGANISATION)
    return Principal(
        user_id=uuid4(),
        organisation_id=DEFAULT_ORGANISATION,
        email="ada@example.org",
        role="admin",
        via="key",
        credential_id=uuid4(),
    )


class Breaking:
    """A script that breaks something when an agent asks for the first time."""

    def __init__(self, agent: str, harm: Callable[[], None]) -> None:
        self._lines = script(retrospect=[written(LESSON)])
        self._agent, self._harm = agent, harm
        self._place: dict[str, int] = {}
        self.is_done = False

    def __call__(self, request: ModelRequest) -> Line:
        agent, task = request.caller.agent, request.caller.task
        if agent == self._agent and not self.is_done:
            self.is_done = True
            self._harm()
        key = f"{agent}/{task}" if f"{agent}/{task}" in self._lines else agent
        number = self._place.get(key, 0)
        self._place[key] = number + 1
        return self._lines[key][number]


async def first_project(system_settings: Settings) -> None:
    """Deliver a project, so that there is something to recall."""
    model = ScriptedModel(script(retrospect=[written(LESSON)]))
    async with system_of(system_settings, model) as system:
        await played(system, model, "A calculator that adds and multiplies whole numbers.")


async def second_project(system: System, model: ScriptedModel) -> Result:
    """Deliver one like it."""
    return await played(system, model, "We need a calculator for multiplying and adding numbers.")


async def rebuilt(system: System) -> Rebuilt:
    """Make the vectors anew, as `phoenix memory rebuild` does."""
    async with open_work(system.rows, ada) as work:
        return await system.memories.rebuild(work)


async def found(system: System) -> Searched:
    """Search as a person does."""
    async with open_work(system.rows, ada) as work:
        return await system.memories.search(work, MemoryQuery(text=ASKED))


def told_of(result: Result) -> None:
    """Hold what a project says whose vectors were lost before its plan."""
    degraded = {(e["agent"], e["task"]) for e in result.of("memory_degraded")}
    assert ("specify", "") not in degraded
    assert {("code", "T1/r1"), ("code", "T2/r1")} <= degraded
    assert all("Chroma" in e["reason"] for e in result.of("memory_degraded"))
    coder = [e for e in result.of("memory_recalled") if e["agent"] == "code"]
    assert coder, "words alone find the lesson too"
    assert all("by meaning" not in i["why"] for e in coder for i in e["items"])
    (kept,) = result.of("memory_written")
    assert "Chroma" in kept["unindexed"]


async def test_a_folder_that_is_spoilt_midway(settings: Settings) -> None:
    """Every file of the embedded index becomes rubbish after the spec; everything else goes on."""
    settings = remembering(settings)
    await first_project(settings)
    folder = settings.home / "vectors"

    def spoil() -> None:
        files = [p for p in folder.rglob("*") if p.is_file() and p.name != "lock"]
        assert files
        for path in files:
            path.write_bytes(b"rubbish" * 1000)

    model = ScriptedModel(Breaking("decompose", spoil))
    async with system_of(settings, model) as system:
        told_of(await second_project(system, model))
        made = await rebuilt(system)
        search = await found(system)
    assert made.items >= 4
    assert search.missed == ""
    assert "by meaning" in search.hits[0].why


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Give the address of a Chroma server, and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [serve(tmp_path / "chroma", port)]
    yield f"http://127.0.0.1:{port}", processes
    processes[-1].kill()
    processes[-1].wait()


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a Chroma server and wait until it answers."""
    command = [str(Path(sys.executable).parent / "chroma"), "run", "--path", str(folder)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat").is_success:
                return process
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


async def test_a_server_that_goes_midway(
    settings: Settings, tmp_path: Path, chroma: tuple[str, list[subprocess.Popen[bytes]]]
) -> None:
    """The server is killed after the spec and comes back without its data: a rebuild makes all of it anew."""
    url, processes = chroma
    settings = remembering(settings).model_copy(update={"chroma_url": url})
    await first_project(settings)

    def kill() -> None:
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()

    model = ScriptedModel(Breaking("decompose", kill))
    async with system_of(settings, model) as system:
        told_of(await second_project(system, model))
        assert "Chroma" in (await found(system)).missed
        shutil.rmtree(tmp_path / "chroma")
        processes.append(serve(tmp_path / "chroma", int(url.rpartition(":")[2])))
        made = await rebuilt(system)
        search = await found(system)
    assert made.items >= 4
    assert search.missed == ""
    assert "by meaning" in search.hits[0].why
