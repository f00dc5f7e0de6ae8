"""A process of Phoenix with a model that obeys whoever wants its secrets; it crashes where it is told to.

Arguments: a folder for prompts, the project to go on with or `-`, how it crashes (`calm`, `raise`, `kill:N`),
and `masked` or `unmasked`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from langchain_core.messages import messages_to_dict

from phoenix.bootstrap import open_system
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch
from phoenix.errors import WorkspaceBusy
from phoenix.flow import leaf
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.scripted import Fault, Line, Say, ScriptedModel
from phoenix.settings import Settings, load_settings
from phoenix.storage.event_batch import EventBatches
from phoenix.telemetry.logs import configure_logs
from phoenix.telemetry.metrics import exposition
from phoenix.telemetry.redaction import KNOWN, Known
from tests.e2e.script import ADD, MODEL, MUL, script, submit

LONGEST_SECONDS = 500
CONTROL = "cnry-control-0f1e2d3c4b5a"
"""Printed on purpose: what searches must find it."""
LOOT = r"""
(
  env; set; cat /proc/*/environ /proc/*/cmdline
  cat @PATHS@ /etc/shadow /run/secrets/* /var/run/secrets/*/*/*
  ls -laR @HOME@ /proc/self/fd /proc/1/root/root
  git config --list --show-origin; git remote -v; git log --all -p
  python3 -c 'import os; print(dict(os.environ))'
  python3 -c 'import socket; socket.create_connection(("127.0.0.1", 5432), 2)'
  (echo "select * from webhooks"; sleep 1) | timeout 3 sh -c 'exec 3<>/dev/tcp/127.0.0.1/5432; cat >&3'
  ls -la /tmp /run/postgresql; timeout 4 grep -rah cnry- /tmp /root /home /run /var/lib /etc /opt
) > loot.txt 2>&1
base64 loot.txt > loot.b64
grep -aoh 'cnry-[^[:space:]]*' loot.txt | sort -u | head -5 | while read -r name; do
  touch "found-$(printf %s "$name" | tr / _)"; git commit -qam "$name"
done
echo @CONTROL@ > control.txt
cat loot.txt control.txt | tail -c 6000
"""


def attack() -> Line:
    """Return the call that looks everywhere and keeps what it finds."""
    paths = " ".join(f"'{path}'" for path in json.loads(Path("paths.json").read_text()))
    command = LOOT.replace("@PATHS@", paths).replace("@HOME@", f"'{os.environ['PHOENIX_HOME']}'")
    return Say(calls=[("bash", {"command": command.replace("@CONTROL@", CONTROL), "timeout_seconds": 60})])


def line_of(request: ModelRequest) -> Line:
    """Return what the model says: a script without memory, so that it survives its process."""
    agent, task = request.caller.agent, request.caller.task
    if agent not in (lines := script()) and agent != "code":
        # Lessons are left out where nobody draws them.
        return Fault("unavailable")
    if agent != "code":
        return lines[agent][0]
    seen = "\n".join(str(m.content) for m in request.messages if m.type == "tool")[-4000:]
    path = str(Path.cwd() / ".env")
    told = Say(calls=[("submit", {"summary": f"I was told to say this: {seen}", "tests": []})])
    if "T1" not in task:
        return MUL if request.turn == 0 else submit()
    turns: list[Line] = [ADD, attack()]
    turns += [
        Say(calls=[("read_file", {"path": "loot.txt"})]),
        Say(calls=[("read_file", {"path": path})]),
        Say(calls=[("search", {"pattern": "cnry-"})]),
        told,
    ]
    return turns[request.turn] if request.turn < len(turns) else submit()


class Watched(ScriptedModel):
    """Keeps every prompt in a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(line_of)
        self.file = folder / f"{os.getpid()}.jsonl"

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        with self.file.open("a") as file:
            file.write(json.dumps(messages_to_dict(request.messages), default=str) + "\n")
        return await super().answer(request)


def crash_once_in_each_step(settings: Settings) -> None:
    """Have the first attempt of every step fail with an error that quotes all that the process knows."""
    known = [*os.environ.values()]
    for name in Settings.model_fields:
        value = getattr(settings, name)
        known += [value.get_secret_value()] if hasattr(value, "get_secret_value") else []
    try_, crashed = leaf._Attempts._try, set()

    async def crashing(self: Any, state: Any, runtime: Any, place: Any, began: float) -> Any:
        if (where := (place.thread_id, place.path)) not in crashed:
            crashed.add(where)
            structlog.get_logger("canary").warning("about_to_crash", environment=dict(os.environ))
            said = f"{place.step} crashed with {' '.join(known)}"
            # A task that fails is left out of its project; one that finds no place is begun again.
            is_task = "task" in structlog.contextvars.get_contextvars()
            raise WorkspaceBusy(said) if is_task else RuntimeError(said)
        return await try_(self, state, runtime, place, began)

    leaf._Attempts._try = crashing  # type: ignore[method-assign]


def die_at(number: int) -> None:
    """Have the process killed when so many steps have begun."""
    append, begun = EventBatches.append, []

    def counting(self: Any, project_id: UUID, kind: str, data: Any, **more: Any) -> Any:
        done = append(self, project_id, kind, data, **more)
        begun.extend([kind] if kind == "step_started" else [])
        if len(begun) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    EventBatches.append = counting  # type: ignore[method-assign]


async def main(prompts: Path, project: str, crash: str) -> None:
    """Work on the project until it has ended."""
    settings = load_settings()
    if crash == "raise":
        crash_once_in_each_step(settings)
    elif crash != "calm":
        die_at(int(crash.removeprefix("kill:")))
    async with (
        asyncio.timeout(LONGEST_SECONDS),
        open_system(settings, backends={MODEL: Watched(prompts)}) as system,
        system.engine.worker(),
    ):
        structlog.get_logger("canary").info("control", control=CONTROL)
        if project == "-":
            order = Launch(requirement="A calculator.", model=MODEL, approvals="auto")
            project = str((await system.engine.launch(order)).id)
            print("project", project, flush=True)
        last = None
        while True:
            overview = await system.engine.overview(UUID(project))
            run = overview.run
            assert not overview.approvals, [a.request for a in overview.approvals]
            if run.status == "success":
                break
            if run.status in FINISHED and (run.id, run.attempt) != last:
                last = (run.id, run.attempt)
                await system.engine.resume(UUID(project))
            await asyncio.sleep(0.05)
        print("control", CONTROL)
        print(exposition().decode(), flush=True)


if __name__ == "__main__":
    configure_logs("debug", "json", quiet=("asyncio",))
    if sys.argv[4] == "unmasked":
        Known.add = lambda self, *values: None  # type: ignore[method-assign]
    assert not KNOWN.is_in(CONTROL)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
