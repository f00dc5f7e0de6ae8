"""A service as a reader has one, with a model that answers as told, and projects for the pages."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx

from tests.e2e.script import criterion, plan, task
from tests.unit.llm.server import Reply, serving

START_SECONDS = 90
WAIT_SECONDS = 45
SPEC = {
    "title": "Photos",
    "summary": "Renames photos.",
    "requirements": [
        {"id": "R1", "text": "It names a photo.", "criteria": [criterion(1, "name(7) is '7.jpg'")]}
    ],
    "non_goals": [],
    "assumptions": [],
}
CODE = "def name(day: int) -> str:\n    return f'{day}.jpg'\n"
TEST = "from photos import name\n\n\ndef test_name():\n    assert name(7) == '7.jpg'\n"
PLAN = plan(task(1, ["C1"], ["photos.py"]), task(2, ["C1"], ["dates.py"], ["T1"]))
TURNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("edit_file", {"path": "photos.py", "old": "", "new": CODE}),
    ("edit_file", {"path": "tests/test_photos.py", "old": "", "new": TEST}),
    (
        "submit",
        {"summary": "Done.", "tests": [{"criterion": "C1", "tests": ["tests/test_photos.py::test_name"]}]},
    ),
)


def answer(asked: dict[str, Any]) -> Reply:
    """Answer a request by what it asks for: a document by its schema's name, a coder by its turn."""
    shape = asked.get("response_format", {}).get("json_schema", {}).get("name", "")
    documents: dict[str, Any] = {
        "TriageDraft": {"size": "small", "reason": "It is little."},
        "QuestionDraft": {"questions": []},
        "SpecDraft": SPEC,
        "PlanDraft": json.loads(PLAN),
        "Review": {"verdict": "clear", "reason": "It says what it means."},
    }
    if shape:
        return Reply(json.dumps(documents[shape]))
    offered = {tool["function"]["name"] for tool in asked.get("tools", ())}
    turn = sum(message["role"] == "assistant" for message in asked["messages"])
    if "submit" not in offered:
        first = turn == 0 and "rate" in offered
        return Reply(calls=[("rate", '{"currency": "CHF"}')]) if first else Reply("0.93 francs.")
    name, arguments = TURNS[min(turn, len(TURNS) - 1)]
    return Reply(calls=[(name, json.dumps(arguments))])


@asynccontextmanager
async def _model() -> Any:
    async with serving() as server:
        server.choose = answer
        yield f"{server.url}/v1"


@contextmanager
def model() -> Iterator[str]:
    """Serve the model in a thread, and give its base URL."""
    ready, over = Event(), Event()
    urls: list[str] = []

    async def serve() -> None:
        async with _model() as url:
            urls.append(url)
            ready.set()
            while not over.is_set():
                await asyncio.sleep(0.05)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield urls[0]
    finally:
        over.set()
        thread.join()


@dataclass
class Shop:
    """A running service and a folder to type in."""

    url: str
    key: str
    folder: Path
    environment: dict[str, str]

    def http(self) -> httpx.Client:
        """Return a client of the service."""
        return httpx.Client(base_url=f"{self.url}/api/v1", headers={"X-API-Key": self.key}, timeout=60)

    def delivered(self) -> str:
        """Return the id of a project that took the short path to its delivery."""
        source = str(self.folder / "code" / "library")
        found = self._launch({"requirement": "Rename photos.", "path": "short", "repository": source})
        self._until(found, "success")
        return found

    def waiting(self, *, planned: bool = False) -> str:
        """Return the id of a project that waits for its spec's approval, or for its plan's."""
        found = self._launch({"requirement": "Rename photos by date.", "path": "full"})
        self._until(found, "waiting")
        if planned:
            (asked,) = self._open(found)
            body = {"verdict": "approve", "digest": asked["request"]["value_digest"]}
            with self.http() as http:
                assert http.post(f"/approvals/{asked['id']}/decision", json=body).status_code == 200
            self._until(found, "waiting", gate="plan")
        return found

    def first(self, kind: str, project: str) -> dict[str, Any]:
        """Return what a page means by the ID of an approval, a template or a webhook."""
        if kind == "approvals":
            return self._open(project)[0]
        with self.http() as http:
            found = http.get(f"/{kind}").json()
        return dict((found["items"] if isinstance(found, dict) else found)[0])

    def _launch(self, order: dict[str, Any]) -> str:
        with self.http() as http:
            launched = http.post("/projects", json=order)
        assert launched.status_code == 202, launched.text
        return str(launched.json()["id"])

    def _open(self, project: str) -> list[dict[str, Any]]:
        with self.http() as http:
            items = http.get("/approvals").json()["items"]
        return [one for one in items if one["project_id"] == project]

    def _until(self, project: str, status: str, *, gate: str = "") -> None:
        until = time.monotonic() + WAIT_SECONDS
        with self.http() as http:
            while time.monotonic() < until:
                run = http.get(f"/projects/{project}").json()["run"]
                asked = [one["request"]["name"] for one in self._open(project)] if gate else [""]
                if run["status"] == status and gate in asked:
                    return
                assert run["status"] in {"pending", "running", "waiting"}, run
                time.sleep(0.1)
        raise AssertionError(f"{project} is still {run['status']}")

    def type(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in the reader's shell; what it exports stays for the next one."""
        kept = self.folder / ".exports"
        before = f"set -o pipefail\nset -a; source {kept} 2>/dev/null; set +a\n"
        script = f"{before}{text}\ncode=$?\nexport -p > {kept}\nexit $code"
        with subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, said = process.communicate(timeout=WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                # What it started goes with it, so that nothing outlives the test.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(text, process.returncode, printed, said)


@contextmanager
def shop(folder: Path, database_url: str) -> Iterator[Shop]:
    """Serve Phoenix from a process of its own, with a model."""
    programs = folder / "bin"
    programs.mkdir()
    phoenix = programs / "phoenix"
    phoenix.write_text(f'#!/bin/sh\nexec {sys.executable} -m phoenix "$@"\n')
    phoenix.chmod(0o755)
    for name in ("python", "python3"):
        (programs / name).symlink_to(sys.executable)
    work = folder / "work"
    (work / ".venv").mkdir(parents=True)
    (work / ".venv" / "bin").symlink_to(programs)
    with model() as base_url:
        common = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(work),
            "PHOENIX_HOME": str(folder / "home"),
            "DATABASE_URL": database_url,
            "OPENAI_BASE_URL": base_url,
            "PHOENIX_MODEL": "openai:test",
            "PHOENIX_LOCAL_SOURCES": "1",
            "EDITOR": "true",
        }
        with _served(common, folder) as (url, key):
            environment = common | {"PHOENIX_SERVER": url, "PHOENIX_API_KEY": key, "KEY": key}
            yield Shop(url, key, work, environment | {"URL": f"{url}/api/v1"})


@contextmanager
def _served(environment: dict[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    log = folder / "service.log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "phoenix.main"],
            env=environment | {"PHOENIX_PORT": "0"},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    try:
        until = time.monotonic() + START_SECONDS
        while (found := re.search(r"serving (http://\S+)", log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        key = re.search(r"phx_key_\S+", log.read_text())
        assert key, log.read_text()
        yield found[1], key[0]
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def lay_out(folder: Path) -> None:
    """Put what a reader has at hand into the folder: a requirement, a repository, rules, a spec, models."""
    (folder / "requirement.md").write_text("Rename photos by date.\n")
    (folder / "bug.md").write_text("Photos have the wrong name.\n")
    library = folder / "code" / "library"
    library.mkdir(parents=True)
    (library / "README.md").write_text("A library.\n")
    git = shutil.which("git")
    assert git
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        author = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        subprocess.run([git, *author, *command], cwd=library, check=True)
