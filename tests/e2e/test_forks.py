"""Forks of a project: state and code of a moment, going on by themselves."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from phoenix.bootstrap import System
from phoenix.domain.approval import Decision
from phoenix.domain.evidence import Build, Evidence
from phoenix.domain.history import ForkOrder
from phoenix.domain.run import Project
from phoenix.engine.launch import Launch, Overview
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from phoenix.storage.database import connect
from tests.e2e.conftest import LONGEST_SECONDS, Develop, asks_for, process_of, stopped, system_of
from tests.e2e.script import FINE, MODEL, SEALED, STUBS, criterion, edit, plan, script, submit, task

TABLES = {
    "projects": "id = :id",
    "runs": "project_id = :id",
    "events": "project_id = :id",
    "artifacts": "project_id = :id",
    "approvals": "project_id = :id",
    "model_calls": "project_id = :id",
    "checkpoints": "thread_id IN (SELECT id::text FROM runs WHERE project_id = :id)",
    "checkpoint_writes": "thread_id IN (SELECT id::text FROM runs WHERE project_id = :id)",
    "checkpoint_blobs": "thread_id IN (SELECT id::text FROM runs WHERE project_id = :id)",
}


async def delivered(system: System, project: Project) -> Overview:
    """Return the overview of a project once it has ended, which it must have well."""
    async with asyncio.timeout(LONGEST_SECONDS):
        overview = await stopped(system, project.id)
    assert overview.run.status == "success", overview.run.error
    return overview


async def launched(system: System, **options: Any) -> Project:
    order = {"requirement": "A calculator.", "model": MODEL, "approvals": "auto"} | options
    return await system.engine.launch(Launch(**order))


def refs(settings: Settings, project_id: UUID) -> str:
    """Return all refs of a project's repository."""
    folder = settings.home / "projects" / str(project_id) / "repository.git"
    return subprocess.run(
        ["git", f"--git-dir={folder}", "for-each-ref"], capture_output=True, text=True, check=True
    ).stdout


async def rows(settings: Settings, project_id: UUID) -> dict[str, list[str]]:
    """Return every row that belongs to a project, as text."""
    assert settings.database_url is not None
    database = connect(settings.database_url.get_secret_value())
    async with database.begin() as connection:
        found = {
            table: sorted(
                (
                    await connection.execute(
                        text(f"SELECT t::text FROM {table} t WHERE {where}"), {"id": project_id}
                    )
                ).scalars()
            )
            for table, where in TABLES.items()
        }
    await database.dispose()
    return found


def asked(model: ScriptedModel, since: int = 0) -> list[str]:
    """Return whom a model answered, from its nth call on, without reviews and the retrospective."""
    names = [f"{r.caller.agent} {r.caller.task}".strip() for r in model.requests[since:]]
    return [name for name in names if not name.startswith(("review", "retro"))]


async def test_a_fork_from_the_plan_gives_another_delivery(settings: Settings) -> None:
    """It has a branch and evidence of its own, and the project that it comes from is as it was."""
    one = plan(task(1, ["C1", "C2"], ["calc.py"]))
    other = json.loads(one) | {"approach": "One task."}
    model = ScriptedModel(
        script(
            contract=[script()["contract"][0]] * 2,
            seal=[script()["seal"][0]] * 2,
            code__T1__r1=[
                *script()["code/T1/r1"],
                edit("calc.py", "raise NotImplementedError('add')", "return b + a"),
                edit("calc.py", "raise NotImplementedError('mul')", "return b * a"),
                submit(),
            ],
        )
    )
    async with system_of(settings, model) as system:
        source = await launched(system)
        first = await delivered(system, source)
        before = (await rows(settings, source.id), refs(settings, source.id))
        calls = len(model.requests)
        point = await system.engine.history.find(source.id, "plan")
        (request,) = point.requests.values()
        fork = await system.engine.forks.fork(
            source.id, "plan", ForkOrder(edit=request.value | other), by="ada"
        )
        second = await delivered(system, fork)
        assert (await rows(settings, source.id), refs(settings, source.id)) == before
    assert asked(model, calls) == ["contract", "seal", "code T1/r1", "code T1/r1", "code T1/r1"]
    a, b = first.artifacts["delivery"], second.artifacts["delivery"]
    assert a["branch"] != b["branch"]
    assert a["commit"] != b["commit"]
    assert a["repository"] != b["repository"]
    assert "return b + a" in show(b, "calc.py")
    assert "return a + b" in show(a, "calc.py")
    assert second.artifacts["plan"]["approach"] == "One task."
    assert second.project.forked_from == source.id


def show(delivery: dict[str, Any], path: str) -> str:
    """Return a file of a delivered commit."""
    return subprocess.run(
        ["git", f"--git-dir={delivery['repository']}", "show", f"{delivery['commit']}:{path}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


NEW_C2 = "mul(2, 3) returns 6, and mul says what it does"
MUL_TESTS = "tests/acceptance/test_acceptance_mul.py"
SEAL_C2 = json.dumps(
    {
        "files": [
            {
                "path": MUL_TESTS,
                "content": "from calc import mul\n\n\ndef test_mul_documented():\n"
                "    assert mul(2, 3) == 6\n    assert mul.__doc__\n",
            }
        ],
        "tests": [{"id": f"{MUL_TESTS}::test_mul_documented", "criterion": "C2"}],
        "already_holding": [],
    }
)
FOUR = plan(
    task(1, ["C1"], ["calc.py"]),
    task(2, ["C2"], ["calc.py"]),
    task(3, [], ["ADD.md"], ["T1"]),
    task(4, [], ["MUL.md"], ["T2"]),
)


def changed_mind() -> dict[str, Any]:
    """Return a script in which C2 is built first as it was, then as it is after the edit."""
    documented = edit("calc.py", "return a * b", '"""Multiply."""\n    return a * b')
    page = edit("MUL.md", "", "# mul\n")
    return script(
        decompose=[FOUR],
        seal=[*script()["seal"], SEAL_C2],
        code__T2__r1=[*script()["code/T2/r1"], documented, submit()],
        code__T3__r1=[edit("ADD.md", "", "# add\n"), submit()],
        code__T4__r1=[page, submit(), page, submit()],
        review=[FINE] * 20,
    )


async def test_an_edited_criterion_reruns_only_what_depends_on_it(settings: Settings) -> None:
    """Plan, contract, other tests and other tasks are kept, and no model is asked for them."""
    model = ScriptedModel(changed_mind())
    async with system_of(settings, model) as system:
        source = await launched(system)
        first = await delivered(system, source)
        calls = len(model.requests)
        edited = (await system.engine.history.find(source.id, "spec")).value.model_dump(mode="json")
        edited["requirements"][1]["criteria"][0]["text"] = NEW_C2
        fork = await system.engine.forks.fork(source.id, "spec", ForkOrder(edit=edited, reuse=True), by="ada")
        second = await delivered(system, fork)
        events = await system.engine.log.read(fork.id, limit=10_000)
    new = [(r.caller.agent, r.caller.task.partition("/")[0]) for r in model.requests[calls:]]
    new = [(agent, name) for agent, name in new if not agent.startswith("retro")]
    assert sorted(set(new)) == [
        ("code", "T2"),
        ("code", "T4"),
        ("review", "T2"),
        ("review", "T4"),
        ("seal", ""),
    ]
    data = {e.kind: e.data for e in events}
    assert sorted(e.data["task"] for e in events if e.kind == "task_reused") == ["T1", "T3"]
    assert data["plan_kept"]["changed"] == ["C2"]
    assert (data["tests_kept"]["criteria"], data["tests_kept"]["written"]) == (["C1"], ["C2"])
    assert data["task_continued"]["task"] == "T2"
    assert "contract_kept" in data

    evidence = Evidence.model_validate(second.artifacts["evidence"])
    assert [(c.criterion, c.holds, [t.id for t in c.tests]) for c in evidence.criteria] == [
        ("C1", True, [f"{SEALED}::test_add"]),
        ("C2", True, [f"{MUL_TESTS}::test_mul_documented"]),
    ]
    built = Build.model_validate(second.artifacts["build"])
    before = Build.model_validate(first.artifacts["build"])
    assert [t.task for t in built.tasks if t.reused] == ["T1", "T3"]
    for was, now in zip(before.tasks, built.tasks, strict=True):
        assert (was.commit == now.commit) == now.reused
    report = Path(second.artifacts["delivery"]["report"]).read_text()
    assert "T1 Task 1: done (reused: nothing that it reads has changed)" in report
    assert "T2 Task 2: done\n" in report
    assert "test_mul():" not in show(second.artifacts["delivery"], SEALED)
    said = next(r for r in model.requests[calls:] if r.caller.task == "T2/r1").messages[-1].content
    assert f"C2 said: mul(2, 3) returns 6\n  and says now: {NEW_C2}" in str(said)


ONE_BY_ONE = plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"], ["T1"]))


async def test_a_fork_in_the_middle_of_a_build_has_code_and_state_of_that_moment(settings: Settings) -> None:
    """Between two tasks the first is done and the second is not; a fork of the fork goes on as well."""
    other = edit("calc.py", "raise NotImplementedError('mul')", "return b * a")
    model = ScriptedModel(
        script(
            decompose=[ONE_BY_ONE],
            code__T1__r1=script()["code/T1/r1"] * 2,
            code__T2__r1=[*script()["code/T2/r1"], other, submit(), other, submit()],
            review=[FINE] * 20,
        )
    )
    async with system_of(settings, model) as system:
        source = await launched(system)
        first = await delivered(system, source)
        points = await system.engine.history.points(source.id)
        (between,) = [
            p
            for p in points
            if p.moment.is_own
            and p.moment.step == "absorb"
            and [r.status for r in p.value.results] == ["done", "waiting"]
        ]
        assert between.moment.commit == between.value.results[0].merged
        calls = len(model.requests)
        fork = await system.engine.forks.fork(source.id, between.moment.short, by="ada")
        (child, *_) = (await system.engine.overview(fork.id)).children
        assert (child.key, child.status) == ("build/1/T1", "success")
        second = await delivered(system, fork)
        assert asked(model, calls) == ["code T2/r1"] * 2
        calls = len(model.requests)
        again = await system.engine.forks.fork(fork.id, "build", by="ada")
        third = await delivered(system, again)
    assert asked(model, calls) == ["code T1/r1", "code T1/r1", "code T2/r1", "code T2/r1"]
    one, two = (Build.model_validate(o.artifacts["build"]) for o in (first, second))
    assert one.tasks[0] == two.tasks[0]
    assert one.tasks[1].commit != two.tasks[1].commit
    assert "return b * a" in show(second.artifacts["delivery"], "calc.py")
    assert third.project.forked_from == fork.id


async def test_a_fork_in_the_middle_of_a_task_goes_on_with_its_agent_s_conversation(
    settings: Settings,
) -> None:
    """Of the checkpoint after a tool call it has the files and the messages: nothing is done twice."""
    model = ScriptedModel(
        script(
            decompose=[ONE_BY_ONE],
            code__T1__r1=[*script()["code/T1/r1"], submit()],
            code__T2__r1=[*script()["code/T2/r1"]] * 2,
            review=[FINE] * 20,
        )
    )
    async with system_of(settings, model) as system:
        source = await launched(system)
        first = await delivered(system, source)
        moments = await system.engine.history.moments(source.id, inner=True)
        edited = next(m for m in moments if m.key == "build/1/T1" and m.path and m.step == "tools")
        assert edited.commit not in ("", first.artifacts["contract"]["commit"])
        calls = len(model.requests)
        fork = await system.engine.forks.fork(source.id, edited.short, by="ada")
        second = await delivered(system, fork)
    assert asked(model, calls) == ["code T1/r1", "code T2/r1", "code T2/r1"]
    assert second.artifacts["delivery"]["commit"] == first.artifacts["delivery"]["commit"]


KILLED = """
import os, signal, sys
from {module} import {owner} as owner

def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

owner.{name} = die
from phoenix.cli.app import main

sys.argv = ["phoenix", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        pytest.param("phoenix.workspace", "copying", "update_refs", id="in the repository"),
        pytest.param("phoenix.engine", "copying", "_copy_writes", id="in a thread"),
        pytest.param("phoenix.storage", "forks", "copy_artifacts", id="in the transaction"),
    ],
)
async def test_a_fork_that_is_killed_is_not_there(
    develop: Develop, settings: Settings, tmp_path: Path, module: str, owner: str, name: str
) -> None:
    """kill -9 anywhere in it leaves the project as it was and nothing half made; the next try succeeds."""
    recording = tmp_path / "recording.jsonl"
    result = await develop(script(), record=recording)
    source = result.overview.project.id
    before = (await rows(settings, source), refs(settings, source))
    process = process_of(settings)
    fork = ("fork", str(source), "--at", "plan", "--model", f"recorded:{recording}", "--json")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED.format(module=module, owner=owner, name=name), *fork],
        env=process.environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (await rows(settings, source), refs(settings, source)) == before
    assert process.run("list") == 0
    assert [line["project_id"] for line in process.events] == [str(source)]
    assert process.run(*fork[:-1]) == 0
    assert (await rows(settings, source), refs(settings, source)) == before
    assert process.result["commit"] == result.overview.artifacts["delivery"]["commit"]


async def test_a_plan_that_does_not_cover_the_edited_spec_is_revised(settings: Settings) -> None:
    """The agent reads the old plan with the differences; what the new plan leaves alone is kept."""
    tests = "tests/acceptance/test_acceptance_page.py"
    page = "import os\n\n\ndef test_page():\n    assert os.path.exists('README.md')\n"
    seal = {
        "files": [{"path": tests, "content": page}],
        "tests": [{"id": f"{tests}::test_page", "criterion": "C3"}],
        "already_holding": [],
    }
    third = task(3, ["C3"], ["README.md"])
    two = [task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"])]
    model = ScriptedModel(
        script(
            decompose=[plan(*two), plan(*two, third)],
            seal=[*script()["seal"], json.dumps(seal)],
            code__T3__r1=[edit("README.md", "", "# calc\n"), submit()],
            review=[FINE] * 20,
        )
    )
    async with system_of(settings, model) as system:
        source = await launched(system)
        await delivered(system, source)
        calls = len(model.requests)
        edited = (await system.engine.history.find(source.id, "spec")).value.model_dump(mode="json")
        edited["requirements"][1]["criteria"].append(criterion(3, "README.md holds `# calc`"))
        order = ForkOrder(edit=edited, reuse=True, approvals="plan")
        fork = await system.engine.forks.fork(source.id, "spec", order, by="ada")
        waiting = await asks_for(system, fork.id, "plan")
        assert "delivery" not in waiting.artifacts
        assert "evidence" not in waiting.artifacts
        assert waiting.artifacts["spec"]["requirements"] == edited["requirements"]
        await system.engine.decide(waiting.approvals[0].id, Decision(verdict="approve"), by="ada")
        second = await delivered(system, fork)
    new = [(r.caller.agent, r.caller.task) for r in model.requests[calls:]]
    assert [n for n in new if not n[0].startswith(("review", "retro"))] == [
        ("decompose", ""),
        ("seal", ""),
        ("code", "T3/r1"),
        ("code", "T3/r1"),
    ]
    asked_for = str(model.requests[calls].messages[-1].content)
    assert "C3 is new: README.md holds `# calc`" in asked_for
    assert "Task 2" in asked_for
    built = Build.model_validate(second.artifacts["build"])
    assert [(t.task, t.reused) for t in built.tasks] == [("T1", True), ("T2", True), ("T3", False)]
    assert all(c["holds"] for c in second.artifacts["evidence"]["criteria"])


async def test_other_interfaces_make_another_contract_and_keep_the_tests(settings: Settings) -> None:
    """The tests are seen red on the new stubs; every task stands on other files, and begins anew."""
    stubs = f"{STUBS}\n\ndef neg(a: int) -> int:\n    raise NotImplementedError('neg')\n"
    contract = json.dumps({"changes": [{"path": "calc.py", "content": stubs, "edits": []}]})
    model = ScriptedModel(
        script(
            contract=[*script()["contract"], contract],
            code__T1__r1=script()["code/T1/r1"] * 2,
            code__T2__r1=script()["code/T2/r1"] * 2,
            review=[FINE] * 20,
        )
    )
    async with system_of(settings, model) as system:
        source = await launched(system)
        await delivered(system, source)
        calls = len(model.requests)
        edited = (await system.engine.history.find(source.id, "plan")).value.model_dump(mode="json")
        edited["interfaces"].append(
            {"file": "calc.py", "signature": "def neg(a: int) -> int", "promise": "-a"}
        )
        fork = await system.engine.forks.fork(source.id, "plan", ForkOrder(edit=edited, reuse=True), by="ada")
        second = await delivered(system, fork)
    assert sorted(asked(model, calls)) == ["code T1/r1"] * 2 + ["code T2/r1"] * 2 + ["contract"]
    built = Build.model_validate(second.artifacts["build"])
    assert not any(t.reused for t in built.tasks)
    assert [
        t.id for c in Evidence.model_validate(second.artifacts["evidence"]).criteria for t in c.tests
    ] == [
        f"{SEALED}::test_add",
        f"{SEALED}::test_mul",
    ]
