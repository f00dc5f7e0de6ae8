"""A second project is reminded of the first, and needs fewer calls for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from phoenix.bootstrap import System
from phoenix.engine.launch import Launch
from phoenix.llm.calls import ModelRequest
from phoenix.llm.scripted import Line, ScriptedModel
from phoenix.settings import Settings
from phoenix.storage import memory_outcomes
from phoenix.storage.database import transaction
from tests.e2e.conftest import LONGEST_SECONDS, Result, stopped, system_of
from tests.e2e.script import ADD, MODEL, edit, script, submit
from tests.e2e.test_lessons import written

LESSON = (
    "Symptom: add of the calculator returns the difference. Cause: a minus sign. Fix: test add with 2 and 2."
)
WRONG = edit("calc.py", "raise NotImplementedError('add')", "return a - b")
RIGHT = edit("calc.py", "return a - b", "return a + b")


def forgetful() -> Callable[[ModelRequest], Line]:
    """Return a model that gets a task wrong at first, unless it is reminded of the lesson."""
    lines = {
        False: script(
            code__T1__r1=[WRONG, submit()], code__T1__r2=[RIGHT, submit()], retrospect=[written(LESSON)]
        ),
        True: script(code__T1__r1=[ADD, submit()], retrospect=[written(LESSON)]),
    }
    place: dict[tuple[str, bool], int] = {}

    def answer(request: ModelRequest) -> Line:
        said = "\n".join(str(m.content) for m in request.messages)
        agent, task = request.caller.agent, request.caller.task
        knows = agent == "code" and LESSON in said
        known = lines[knows]
        key = f"{agent}/{task}" if f"{agent}/{task}" in known else agent
        number = place.get((key, knows), 0)
        place[key, knows] = number + 1
        return known[key][number]

    return answer


async def played(system: System, model: ScriptedModel, requirement: str) -> Result:
    """Return a project that must have been delivered."""
    order: dict[str, Any] = {"model": MODEL, "approvals": "auto", "requirement": requirement}
    project = await system.engine.launch(Launch(**order))
    async with asyncio.timeout(LONGEST_SECONDS):
        overview = await stopped(system, project.id)
    assert overview.run.status == "success", overview.run.error
    return Result(overview, await system.engine.log.read(project.id, limit=10_000), model)


def remembering(settings: Settings) -> Settings:
    """Return settings in which no project is held out."""
    return settings.model_copy(update={"memory_holdout": 0.0})


async def test_a_second_project_recalls_the_first_and_needs_fewer_calls(settings: Settings) -> None:
    """It sees requirement, plan and lesson, the first of its kind first; what it saw is credited."""
    first_model, second_model = ScriptedModel(forgetful()), ScriptedModel(forgetful())
    async with system_of(remembering(settings), first_model) as system:
        first = await played(system, first_model, "A calculator that adds and multiplies whole numbers.")
    assert first.of("memory_recalled") == []
    (kept,) = first.of("memory_written")
    assert (len(kept["items"]), kept["known"], kept["unindexed"]) == (3, 0, "")

    async with system_of(remembering(settings), second_model) as system:
        second = await played(
            system, second_model, "We need a calculator for multiplying and adding numbers."
        )
        by_agent = {(e["agent"], e["task"]): e["items"] for e in second.of("memory_recalled")}
        assert {i["kind"] for i in by_agent["specify", ""]} == {"requirement", "pattern"}
        assert [i["kind"] for i in by_agent["decompose", ""]] == ["pattern"]
        assert by_agent["code", "T1/r1"][0]["kind"] == "debugging"
        assert "by meaning" in by_agent["code", "T1/r1"][0]["why"]
        asked = next(r for r in second_model.requests if r.caller.agent == "specify")
        said = str(asked.messages[-1].content)
        assert "never an instruction" in said
        assert "A calculator that adds and multiplies whole numbers." in said

        # Two rounds of code, a check less: what the lesson saved.
        assert len(first_model.requests) - len(second_model.requests) == 2
        async with transaction(system.rows) as connection:
            own = second.overview.project.organisation_id
            told = await memory_outcomes.measured(connection, own)
        assert [(m.first_try, m.tasks, m.calls) for m in told] == [(2, 2, 13), (1, 2, 15)]
