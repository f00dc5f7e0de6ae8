"""Three replicas of the HTTP service and four workers, killed at random, behind a plain TCP balancer.

Teams of people take projects from launch to delivery through the balancer: an edited spec, a rejected plan,
an escalated delivery. Meanwhile one process after the other is killed without warning and started again, at
random moments, on real PostgreSQL and Redis. Afterwards every project must be delivered, each decision be
there once and by whom it was made, and the events be numbered without gap. Prints what was killed, and last
the share of projects that were lost. Exits 0 only where that is none, and each kind of process was killed.

PHOENIX_TEST_DATABASE_URL names a server to use; else one is started. Run as
`python -m benchmarks.fleet [--projects 4] [--pause 2.0] [--seed 1]`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from httpx import AsyncClient, TransportError
from pydantic import SecretStr

from benchmarks.databases import drop, fresh, postgres
from benchmarks.server.contenders import free_port
from phoenix.settings import Settings
from phoenix.storage.migrate import upgrade
from tests.e2e.test_team import MESSAGE, RULES, WHY, Team, edited, recorded
from tests.unit.api.test_rates import Server as RedisServer

REPLICAS, WORKERS = 3, 4
TRIES = 60
TRY_SECONDS = 0.5
START_SECONDS = 240.0
LONGEST_SECONDS = 900.0
KEY = re.compile(r"phx_key_\S+")
OPEN = ("waiting", "running", "pending")


class Balancer:
    """Passes each connection to the next backend that accepts it, and knows nothing of what is said."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.turn = 0
        self.server: asyncio.Server | None = None

    async def start(self) -> str:
        """Begin to listen; return the URL."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self.ports:
            self.turn += 1
            with suppress(OSError):
                there = await asyncio.open_connection("127.0.0.1", self.ports[self.turn % len(self.ports)])
                await asyncio.gather(_piped(reader, there[1]), _piped(there[0], writer))
                return
        writer.close()


async def _piped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Fleet:
    """The processes, by name, each with how it is started."""

    environment: dict[str, str]
    log: Path
    running: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    ports: dict[str, int] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """Start a process, or start it again."""
        own = self.environment | {"PHOENIX_WORK": "false"}
        command = ["-m", "phoenix", "worker"]
        if name.startswith("api"):
            own["PHOENIX_PORT"] = str(self.ports.setdefault(name, free_port()))
            command = ["-m", "phoenix.main"]
        with self.log.open("ab") as log:
            self.running[name] = await asyncio.create_subprocess_exec(
                sys.executable, *command, env=own, stdout=log, stderr=log
            )

    async def serving(self, name: str) -> None:
        """Return once a replica answers."""
        async with asyncio.timeout(START_SECONDS), AsyncClient() as http:
            while True:
                with suppress(TransportError):
                    if (await http.get(f"http://127.0.0.1:{self.ports[name]}/readyz")).status_code == 200:
                        return
                await asyncio.sleep(0.1)

    async def kill_on(self, chance: random.Random, pause: float) -> None:
        """Kill one after the other and start it again, until cancelled; never the last that serves."""
        serving = {name for name in self.running if name.startswith("api")}
        coming: set[asyncio.Task[None]] = set()
        try:
            while True:
                await asyncio.sleep(chance.uniform(0.3, 1.7) * pause)
                workers = {name for name in self.running if name.startswith("worker")}
                name = chance.choice(sorted(workers | (serving if len(serving) > 1 else set())))
                process = self.running[name]
                process.kill()
                await process.wait()
                self.killed[name.rstrip("0123456789")] += 1
                await self.start(name)
                if name in serving:
                    serving.discard(name)
                    coming.add(asyncio.create_task(self._back(name, serving)))
        finally:
            for task in coming:
                task.cancel()

    async def _back(self, name: str, serving: set[str]) -> None:
        await self.serving(name)
        serving.add(name)

    async def stop(self) -> None:
        """End all."""
        for process in self.running.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self.running.values():
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), START_SECONDS)
            if process.returncode is None:
                process.kill()
                await process.wait()


class Patient(Team):
    """A team whose requests are made again when a replica dies under them."""

    async def ask(
        self, who: str, method: str, path: str, body: Any = None, *, key: str = ""
    ) -> tuple[int, Any]:
        """Make a request, under one idempotency key, until it is answered."""
        headers = {"X-API-Key": key} if key else {"Authorization": f"Bearer {self.tokens[who]}"}
        headers["Idempotency-Key"] = str(uuid4())
        for _ in range(TRIES):
            with suppress(TransportError):
                async with AsyncClient(base_url=f"{self.url}/api/v1", headers=headers, timeout=30) as http:
                    answer = await http.request(method, path, json=body)
                if answer.status_code < 500:
                    return answer.status_code, answer.json() if answer.content else None
            await asyncio.sleep(TRY_SECONDS)
        raise SystemExit(f"{method} {path} was not answered in {TRIES} tries.")

    async def asked(self, project_id: str, gate: str, *, other_than: str = "") -> dict[str, Any]:
        """Return what waits of a project at a gate, once it does."""
        while True:
            for found in await self.does("viewer", "GET", "/approvals"):
                mine = found["project_id"] == project_id and found["request"]["name"] == gate
                if mine and found["id"] != other_than:
                    return dict(found)
            run = (await self.does("viewer", "GET", f"/projects/{project_id}"))["run"]
            if run["status"] not in OPEN:
                raise LookupError(f"{project_id} is {run['status']}: {run['error']}")
            await asyncio.sleep(0.2)

    async def settle(self, who: str, found: dict[str, Any], verdict: str, **more: Any) -> None:
        """Decide; a 409 may be the answer to one's own decision, whose answer was lost."""
        status, said = await self.decide(who, found, verdict, **more)
        if status not in (200, 409):
            raise LookupError(f"{found['id']} was not decided: {said}")

    async def escalated(self, project_id: str) -> None:
        """Return once nobody decided on the delivery for its time."""
        while True:
            if "approval_escalated" in [event["kind"] for event in await self.events(project_id)]:
                return
            await asyncio.sleep(0.5)

    async def over(self, project_id: str) -> dict[str, Any]:
        """Return a project once it is over."""
        while True:
            whole = await self.does("viewer", "GET", f"/projects/{project_id}")
            if whole["run"]["status"] not in OPEN:
                return dict(whole)
            await asyncio.sleep(0.2)

    async def deliver(self, model: str) -> list[str]:
        """Take a project from launch to delivery; return what is wrong with it."""
        order = {"requirement": "A calculator.", "model": model, "path": "full", "gate_rules": RULES}
        order |= {"approvals": "spec,plan,delivery"}
        project = str((await self.does("developer", "POST", "/projects", order))["id"])
        try:
            found = await self.asked(project, "spec")
            await self.settle("approver", found, "edit", value=edited(found["request"]["value"]))
            first = await self.asked(project, "plan")
            await self.settle("approver", first, "reject", reason=WHY)
            second = await self.asked(project, "plan", other_than=first["id"])
            await self.does("developer", "POST", f"/projects/{project}/messages", {"text": MESSAGE})
            await self.settle("approver", second, "approve")
            found = await self.asked(project, "delivery")
            await self.escalated(project)
            await self.settle("admin", found, "approve")
            whole = await self.over(project)
        except LookupError as error:
            return [str(error)]
        return judged(whole, await self.events(project))


def judged(whole: dict[str, Any], events: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with a project that is over."""
    wrong = []
    if whole["run"]["status"] != "success":
        wrong.append(f"it is {whole['run']['status']}: {whole['run']['error']}")
    if [event["seq"] for event in events] != list(range(1, len(events) + 1)):
        wrong.append("its events have a gap")
    decided = [e["data"] for e in events if e["kind"] == "approval_decided"]
    verdicts = [(d["name"], d["verdict"], d["by"].partition("@")[0]) for d in decided]
    wanted = [("spec", "edit"), ("plan", "reject"), ("plan", "approve")]
    if verdicts != [(*pair, "approver") for pair in wanted] + [("delivery", "approve", "admin")]:
        wrong.append(f"its decisions are {verdicts}")
    if sum(event["kind"] == "project_delivered" for event in events) != 1:
        wrong.append("it was not delivered once")
    return wrong


@asynccontextmanager
async def opened(url: str, folder: Path) -> AsyncIterator[tuple[Fleet, str]]:
    """Run the fleet behind its balancer; yield it and the balancer's URL."""
    redis = RedisServer(folder)
    await redis.start()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PHOENIX_HOME": str(folder / "home"),
        "PHOENIX_LOCAL_SOURCES": "true",
        "PHOENIX_AUTO_MIGRATE": "false",
        "PHOENIX_LOG_FORMAT": "json",
        "DATABASE_URL": url,
        "REDIS_URL": redis.url,
    }
    fleet = Fleet(environment, folder / "fleet.log")
    try:
        for name in [f"api{n}" for n in range(REPLICAS)] + [f"worker{n}" for n in range(WORKERS)]:
            await fleet.start(name)
            if name == "api0":
                await fleet.serving(name)
        for n in range(REPLICAS):
            await fleet.serving(f"api{n}")
        yield fleet, await Balancer([fleet.ports[f"api{n}"] for n in range(REPLICAS)]).start()
    except BaseException:
        print("".join(fleet.log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
        raise
    finally:
        await fleet.stop()
        await redis.stop()


async def measured(server: str, options: argparse.Namespace, folder: Path) -> int:
    """Run the scenario; return how many projects were lost, or -1 when too little was killed."""
    names = [await fresh(server, f"fleet_{part}") for part in ("recording", "work")]
    scratch, url = names
    try:
        for each in names:
            await upgrade(each)
        settings = Settings(home=folder / "recording", DATABASE_URL=SecretStr(scratch))  # type: ignore[call-arg]
        model = await recorded(settings, folder)
        async with opened(url, folder) as (fleet, balanced), asyncio.timeout(LONGEST_SECONDS):
            found = KEY.search(fleet.log.read_text())
            assert found is not None, "no administrator was made"
            team = Patient(settings, url=balanced)
            await team.join(found[0])
            chance = random.Random(options.seed)
            began = time.monotonic()
            killing = asyncio.create_task(fleet.kill_on(chance, options.pause))
            try:
                results = await asyncio.gather(*(team.deliver(model) for _ in range(options.projects)))
            finally:
                killing.cancel()
                await asyncio.wait([killing])
            seconds = time.monotonic() - began
        for number, wrong in enumerate(results):
            print(f"project {number}: {'; '.join(wrong) or 'delivered'}")
        killed = fleet.killed
        print(f"killed: replicas {killed['api']} times, workers {killed['worker']} times, in {seconds:.0f} s")
        return sum(map(bool, results)) if killed["api"] and killed["worker"] else -1
    finally:
        for each in names:
            await drop(server, each)


async def main() -> int:
    """Run it and print the share of projects that were lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--projects", type=int, default=4)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two kills, about")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="phoenix-fleet-") as folder:
        async with postgres() as server:
            lost = await measured(server, options, Path(folder))
    if lost < 0:
        print("too little was killed: give more projects")
        return 1
    print(f"lost {lost} of {options.projects}: ratio {lost / options.projects:.2f} (bar 0.00)")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
