"""The development workflow end to end, with a scripted model."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from phoenix.domain.approval import Decision
from phoenix.domain.evidence import Delivery, Evidence
from phoenix.engine.launch import Launch
from phoenix.errors import DecisionConflict
from phoenix.llm.scripted import Say, ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS, Develop, Result, asks_for, stopped, system_of
from tests.e2e.script import (
    ADD,
    FINE,
    MODEL,
    MUL,
    SEALED,
    SMALL,
    STUBS,
    TESTS,
    criterion,
    edit,
    plan,
    script,
    spec,
    submit,
    task,
)

FIXED = "def add(a: int, b: int) -> int:\n    return a + b\n"


def delivered(result: Result) -> tuple[Delivery, Evidence]:
    """Return the delivery and its evidence, which must be there."""
    assert result.overview.run.status == "success", result.overview.run.error
    artifacts = result.overview.artifacts
    return Delivery.model_validate(artifacts["delivery"]), Evidence.model_validate(artifacts["evidence"])


def checkout(delivery: Delivery, folder: Path) -> Path:
    """Clone the delivered branch as its user would."""
    subprocess.run(
        ["git", "clone", "-q", "--branch", delivery.branch, delivery.repository, str(folder)], check=True
    )
    return folder


async def test_delivers_a_branch_whose_sealed_tests_pass_outside(develop: Develop, tmp_path: Path) -> None:
    """Two tasks built side by side are merged, verified and delivered with evidence."""
    result = await develop(script())
    delivery, evidence = delivered(result)
    assert [(c.criterion, c.holds, c.source) for c in evidence.criteria] == [
        ("C1", True, "sealed"),
        ("C2", True, "sealed"),
    ]
    assert [c.tasks for c in evidence.criteria] == [["T1"], ["T2"]]
    folder = checkout(delivery, tmp_path / "checkout")
    assert (folder / SEALED).read_text() == TESTS
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout
    assert "| C1: add" in Path(delivery.report).read_text()


async def test_tasks_without_a_path_between_them_overlap(develop: Develop) -> None:
    """Two independent tasks run at once; the third starts after both and sees their work."""
    tasks = plan(
        task(1, ["C1"], ["calc.py"]),
        task(2, ["C2"], ["calc.py"]),
        task(3, ["C2"], ["README.md"], ["T1", "T2"]),
    )
    third = [edit("README.md", "", "# calc\n"), submit()]
    result = await develop(script(decompose=[tasks], code__T3__r1=third))
    delivered(result)
    at = {
        (e.kind, e.data.get("key")): e.seq for e in result.events if e.kind in ("run_started", "run_finished")
    }
    last_start = max(at["run_started", "build/1/T1"], at["run_started", "build/1/T2"])
    first_end = min(at["run_finished", "build/1/T1"], at["run_finished", "build/1/T2"])
    last_end = max(at["run_finished", "build/1/T1"], at["run_finished", "build/1/T2"])
    assert last_start < first_end
    assert at["run_started", "build/1/T3"] > last_end
    seen = next(r for r in result.model.requests if r.caller.task == "T3/r1").messages[-1].content
    assert "NotImplementedError" not in str(seen)


async def test_a_conflict_is_resolved_by_an_agent_and_verified(develop: Develop) -> None:
    """Two tasks that change the same line are merged by the resolver."""
    header = edit("calc.py", "def add", '"""Sums."""\n\n\ndef add')
    other = edit("calc.py", "def add", '"""Products."""\n\n\ndef add')
    both = STUBS.replace("raise NotImplementedError('add')", "return a + b").replace(
        "raise NotImplementedError('mul')", "return a * b"
    )
    whole = {"path": "calc.py", "old": "", "new": '"""Sums and products."""\n\n\n' + both, "overwrite": True}

    result = await develop(
        script(
            code__T1__r1=[
                header,
                edit("calc.py", "raise NotImplementedError('add')", "return a + b"),
                submit(),
            ],
            code__T2__r1=[other, MUL, submit()],
            resolve=[Say(calls=[("edit_file", whole)]), submit()],
        )
    )
    delivered(result)
    asked = next(r for r in result.model.requests if r.caller.agent == "retrospect").messages[-1]
    assert "conflicts_resolved_in:\n  - calc.py" in str(asked.content)
    assert [e["files"] for e in result.of("merge_conflicted")] == [["calc.py"]]
    assert [e["resolved"] for e in result.of("task_merged")] == [False, True]


async def test_problems_of_a_round_come_back_to_the_coder(develop: Develop) -> None:
    """A red sealed test and a blocking finding each send the task back, with their text."""
    wrong = edit("calc.py", "raise NotImplementedError('add')", "return a - b")
    right = edit("calc.py", "return a - b", "return a + b")
    finding = {"file": "calc.py", "text": "add must document itself", "blocking": True}
    blocking = json.dumps({"summary": "No.", "findings": [finding]})
    documented = edit("calc.py", "return a + b", '"""Sum."""\n    return a + b')
    result = await develop(
        script(
            code__T1__r1=[wrong, submit()],
            code__T1__r2=[right, submit()],
            code__T1__r3=[documented, submit()],
            review__T1__r2=[blocking],
        )
    )
    delivered(result)
    asked = [r for r in result.model.requests if r.caller.agent == "code" and r.caller.task.startswith("T1")]
    firsts = [str(r.messages[-1].content) for r in asked if r.messages[-1].type == "human"]
    assert "Criterion C1 does not hold yet (failed)" in firsts[1]
    assert "Review: calc.py: add must document itself" in firsts[2]


async def test_a_red_verification_becomes_a_repair_task(develop: Develop) -> None:
    """A task that gave up is made up for by a repair round."""
    idle = [edit("notes.txt", "", "x"), submit()]
    again = [edit("notes.txt", "x", "y"), submit()]
    last = [edit("notes.txt", "y", "z"), submit()]
    result = await develop(
        script(
            code__T2__r1=idle,
            code__T2__r2=again,
            code__T2__r3=last,
            code__R2__r1=[MUL, submit()],
        )
    )
    _, evidence = delivered(result)
    assert evidence.round == 2
    assert [e["passed"] for e in result.of("build_verified")] == [False, True]


async def test_a_failed_task_stops_only_what_depends_on_it(develop: Develop) -> None:
    """Its dependents are blocked without being begun; the others are built, and a repair makes up for it."""
    tasks = [task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"]), task(3, ["C1"], ["calc.py"], ["T1"])]
    result = await develop(
        script(
            decompose=[plan(*tasks)],
            code__T1__r1=[],
            code__R2__r1=[ADD, submit()],
        )
    )
    first_round = [e["tasks"] for e in result.of("board_changed") if len(e["tasks"]) == len(tasks)][-1]
    assert {t["task"]: t["status"] for t in first_round} == {"T1": "failed", "T2": "done", "T3": "blocked"}
    assert "T1" in next(t["reason"] for t in first_round if t["task"] == "T3")
    assert "build/1/T3" not in {child.key for child in result.overview.children}
    _, evidence = delivered(result)
    assert evidence.round == 2


async def test_a_coder_that_hides_the_sealed_tests_is_sent_back(develop: Develop) -> None:
    """Files that a `.gitignore` leaves out would be in no commit, and no verification could be green."""
    hide, show = (edit(".gitignore", *change) for change in (("", "acceptance/\n"), ("acceptance/", "x/")))
    result = await develop(script(code__T1__r1=[hide, ADD, submit()], code__T1__r2=[show, submit()]))
    delivered(result)
    again = next(r for r in result.model.requests if r.caller.task == "T1/r2")
    assert "A .gitignore leaves out" in str(again.messages[-1].content)


@pytest.mark.parametrize(
    "command",
    [
        f"mkdir -p tests/acceptance && echo 'def test_add(): pass' > {SEALED}",
        "mkdir -p tests && ln -s .. tests/acceptance",
        "echo > tests",
    ],
)
async def test_a_coder_that_writes_sealed_tests_is_caught(develop: Develop, command: str) -> None:
    """A task whose coder touches the sealed folder, or its place, fails; nothing of it is merged."""

    cheat = Say(calls=[("bash", {"command": command})])
    result = await develop(
        script(
            code__T1__r1=[cheat, submit()],
            code__R2__r1=[edit("calc.py", "raise NotImplementedError('add')", "return a + b"), submit()],
        )
    )
    _, evidence = delivered(result)
    boards = result.of("board_changed")
    assert any(
        t["task"] == "T1" and t["status"] == "failed" and "sealed" in t["reason"]
        for b in boards
        for t in b["tasks"]
    )
    assert evidence.round == 2


async def test_a_red_delivery_is_never_approved_by_policy(develop: Develop) -> None:
    """When the rounds are used up and criteria are red, the project waits for a person."""
    result = await develop(
        script(
            code__T1=[submit()] * 9, code__T1__r1=[submit()], code__R2=[submit()] * 3, code__R3=[submit()] * 3
        )
    )
    assert result.overview.run.status == "waiting"
    assert [a.request.name for a in result.overview.approvals] == ["delivery"]
    assert result.overview.approvals[0].request.value["passed"] is False


async def test_a_small_request_takes_the_short_path(develop: Develop, tmp_path: Path) -> None:
    """A bug in an existing repository is mended in one agent loop, and the branch arrives there."""
    repository = tmp_path / "calc"
    repository.mkdir()
    (repository / "calc.py").write_text("def add(a: int, b: int) -> int:\n    return a - b\n")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        subprocess.run(
            ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *command],
            cwd=repository,
            check=True,
        )
    small = {
        "title": "Mend add",
        "summary": "add subtracts.",
        "requirements": [{"id": "R1", "text": "add adds", "criteria": [criterion(1, "add(2, 2) is 4")]}],
        "non_goals": [],
        "assumptions": [],
    }
    test = "from calc import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n"
    result = await develop(
        {
            "triage": [SMALL],
            "frame": [json.dumps(small)],
            "code": [
                edit("calc.py", "a - b", "a + b"),
                edit("tests/test_calc.py", "", test),
                submit(("C1", "tests/test_calc.py::test_add")),
            ],
        },
        repository=str(repository),
    )
    delivery, evidence = delivered(result)
    assert [(c.criterion, c.holds, c.source) for c in evidence.criteria] == [("C1", True, "declared")]
    assert {r.caller.agent for r in result.model.requests} == {"triage", "frame", "code"}
    assert delivery.repository == str(repository)
    shown = subprocess.run(
        ["git", "show", f"{delivery.branch}:calc.py"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == FIXED
    assert (repository / "calc.py").read_text().endswith("a - b\n")


async def test_review_lines_are_used(develop: Develop) -> None:
    """Each task of the full path is reviewed once when its first review is fine."""
    result = await develop(script(review=[FINE, FINE]))
    assert len(result.of("task_reviewed")) == 2


async def test_a_rejection_goes_back_with_its_reason(settings: Settings) -> None:
    """A person rejects the spec, edits the plan and approves the delivery."""
    second = spec().replace("A calculator.", "A better calculator.")
    model = ScriptedModel(script(specify=[spec(), second]))
    async with system_of(settings, model) as system:
        engine = system.engine
        order = Launch(requirement="A calculator.", model=MODEL, approvals="ask")
        project = await engine.launch(order)
        first = (await stopped(system, project.id)).approvals[0]
        assert first.request.name == "spec"
        await engine.decide(first.id, Decision(verdict="reject", reason="Say what is better."), by="ann")
        with pytest.raises(DecisionConflict):
            await engine.decide(first.id, Decision(verdict="approve"), by="bob")
        again = (await asks_for(system, project.id, "spec", other_than=first.id)).approvals[0]
        assert again.request.value["summary"] == "A better calculator."
        asked = [str(r.messages[-1].content) for r in model.requests if r.caller.agent == "specify"]
        assert "Say what is better." in asked[1]
        await engine.decide(again.id, Decision(verdict="approve"), by="ann")
        gate = (await asks_for(system, project.id, "plan")).approvals[0]
        edited = gate.request.value | {"approach": "One module, edited."}
        await engine.decide(gate.id, Decision(verdict="edit", value=edited), by="ann")
        gate = (await asks_for(system, project.id, "delivery")).approvals[0]
        assert gate.request.value["passed"] is True
        await engine.decide(gate.id, Decision(verdict="approve"), by="ann")
        async with asyncio.timeout(LONGEST_SECONDS):
            while (await engine.run((await engine.overview(project.id)).run.id)).status != "success":
                await asyncio.sleep(0.1)
        contracted = [str(r.messages[-1].content) for r in model.requests if r.caller.agent == "contract"]
        assert "One module, edited." in contracted[0]
