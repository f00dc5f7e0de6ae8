"""The command line as a client: the service in one process, each command in another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phoenix.settings import Settings
from tests.e2e.conftest import Develop
from tests.e2e.script import script
from tests.e2e.test_up import up

LONGEST_SECONDS = 240.0


@dataclass
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Shell:
    """A user's shell on a machine that knows a service and has no database."""

    def __init__(self, home: Path, url: str, key: str = "") -> None:
        self.home = home
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PHOENIX_HOME": str(home)}
        self.environment |= {"PHOENIX_SERVER": url} | ({"PHOENIX_API_KEY": key} if key else {})

    @contextlib.asynccontextmanager
    async def started(self, *arguments: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "phoenix", *arguments),
            env=self.environment | more,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            limit=2**24,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def phoenix(self, *arguments: str, typed: str = "", **more: str) -> Done:
        async with self.started(*arguments, **more) as process:
            out, err = await process.communicate(typed.encode())
        assert process.returncode is not None
        assert "Traceback" not in err.decode()
        return Done(process.returncode, out.decode(), err.decode())


async def recorded(develop: Develop, folder: Path) -> str:
    """Return a model that answers from a recording of the small product."""
    recording = folder / "recording.jsonl"
    assert (await develop(script(), record=recording)).overview.run.status == "success"
    return f"recorded:{recording}"


async def look_into(shell: Shell, project: str) -> None:
    """Look into a delivered project with every command of `phoenix lens`."""
    tree = (await shell.phoenix("lens", "trace", project[:8])).out
    assert tree.startswith("run develop")
    assert "wait plan" in tree
    calls = (await shell.phoenix("lens", "spans", project, "--kind", "model", "--json")).lines
    (row,) = [r for r in (await shell.phoenix("lens", "list", "--json")).lines if r["project_id"] == project]
    assert row["model_calls"] == len(calls) > 0
    assert row["tokens"] == sum(call["input_tokens"] + call["output_tokens"] for call in calls)
    stats = (await shell.phoenix("lens", "stats", project, "--json")).lines
    assert sum(figure["count"] for figure in stats if figure["kind"] == "model") == len(calls)
    assert (await shell.phoenix("lens", "show", project)).code == 0
    assert (await shell.phoenix("lens", "diff", project, project)).code == 0
    played = (await shell.phoenix("lens", "replay", project, "--kind", "model_called", "--json")).lines
    assert len(played) == len(calls)
    assert [row["seq"] for row in played] == sorted(row["seq"] for row in played)
    assert "acceptance tests sealed" in (await shell.phoenix("lens", "replay", project)).out
    wrong = await shell.phoenix("lens", "trace", project, "--run", "build/9/T9")
    assert (wrong.code, "Known are build/1/T1" in wrong.err) == (2, True), wrong.err


async def test_a_project_is_taken_from_launch_to_delivery_by_a_client(
    develop: Develop, settings: Settings, tmp_path: Path
) -> None:
    """Every command that steers; the client's machine starts nothing of its own."""
    model = await recorded(develop, tmp_path)
    async with up(settings) as service, asyncio.timeout(LONGEST_SECONDS):
        shell = Shell(tmp_path / "client", service.url)
        signed_in = await shell.phoenix("login", typed=f"{service.key}\n")
        assert signed_in.code == 0, signed_in.err
        assert "as admin@localhost (admin)" in signed_in.out

        new = await shell.phoenix("new", "A calculator.", "--model", model, "--approve", "plan", "--json")
        assert new.code == 3, new.err
        *events, waiting = new.lines
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
        assert (waiting["status"], waiting["waiting_for"][0]["name"]) == ("waiting", "plan")
        project = waiting["project_id"]
        (listed,) = [p for p in (await shell.phoenix("list", "--json")).lines if p["waiting_for"]]
        assert (listed["project_id"], listed["status"]) == (project, "waiting")
        assert "To decide: plan" in (await shell.phoenix("show", project[:8])).out

        assert (await shell.phoenix("pause", project[:8], "--reason", "lunch")).code == 0
        assert "lunch" in (await shell.phoenix("watch", project)).err
        approved = await shell.phoenix("approve", project[:8], "--verdict", "approve", "--json")
        assert (approved.code, approved.lines[0]["verdict"]) == (0, "approve"), approved.err
        assert (await shell.phoenix("approve", project)).code == 2
        resumed = await shell.phoenix("resume", project[:8], "--json")
        assert resumed.code == 0, resumed.err
        assert (resumed.lines[-1]["status"], len(resumed.lines[-1]["commit"])) == ("delivered", 40)
        assert "stopping" not in resumed.err
        again = await shell.phoenix("watch", project, "--json")
        assert (again.code, again.lines[-1]["commit"]) == (0, resumed.lines[-1]["commit"])
        shown = (await shell.phoenix("show", project, "--json")).lines[0]
        assert (shown["status"], "evidence" in shown["artifacts"]) == ("delivered", True)

        await look_into(shell, project)

        detached = (await shell.phoenix("new", "Another.", "--model", model, "--detach")).out.strip()
        cancelled = await shell.phoenix("cancel", detached, "--json")
        assert cancelled.lines[0]["status"] in ("cancelled", "failed")
        workers = (await shell.phoenix("workers", "--json")).lines
        assert [w["pid"] for w in workers] == [service.process.pid]
        audit = await shell.phoenix("audit", "verify", "--json")
        assert (audit.code, audit.lines[0]["broken_at"]) == (0, None)
        assert audit.lines[0]["checked"] >= 5

        wrong = await shell.phoenix("list", PHOENIX_API_KEY=service.key[:-4] + "xxxx")
        assert (wrong.code, "error: This API key is unknown." in wrong.err) == (1, True)
    assert [path.name for path in shell.home.iterdir()] == ["api-keys.json"]


async def test_a_follower_goes_on_when_the_service_is_started_again(
    develop: Develop, settings: Settings, tmp_path: Path
) -> None:
    """Killed in the midst of the work: what was seen is not seen again, and nothing is left out."""
    model = await recorded(develop, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    async with asyncio.timeout(LONGEST_SECONDS):
        async with up(settings, PHOENIX_PORT=port) as first:
            shell = Shell(tmp_path / "client", first.url, first.key)
            launched = await shell.phoenix(
                *("new", "A calculator.", "--model", model, "--approve", "auto", "--detach")
            )
            project = launched.out.strip()
            assert launched.code == 0, launched.err
            async with shell.started("watch", project, "--json") as watching:
                assert watching.stdout is not None
                seen = [json.loads(await watching.stdout.readline()) for _ in range(3)]
                first.process.send_signal(signal.SIGKILL)
                await first.process.wait()
                await asyncio.sleep(1)
                async with up(settings, PHOENIX_PORT=port):
                    out, err = await watching.communicate()
    assert watching.returncode == 0, err.decode()
    *events, last = [*seen, *map(json.loads, out.splitlines())]
    assert [e["seq"] for e in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))
    assert last["status"] == "delivered"
    assert "cannot be reached" in err.decode()
    assert "the service answers again" in err.decode()
