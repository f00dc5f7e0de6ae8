"""What a delivered project taught, and that nothing about it can take the delivery back."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from phoenix.domain.lessons import Lessons
from phoenix.engine.launch import Launch
from phoenix.llm.scripted import Fault, Line, ScriptedModel
from phoenix.settings import Settings
from phoenix.workflows import learning
from tests.e2e.conftest import LONGEST_SECONDS, Develop, Result, stopped, system_of
from tests.e2e.script import MODEL, edit, script, submit

KEY = "ghp_" + "0123456789abcdefABCDEF0123456789abcd"


def written(*texts: str) -> str:
    """Return lessons as a model writes them."""
    lessons = [
        {"kind": "debugging", "text": text, "tags": ["python"], "tasks": ["T1"], "criteria": ["C1"]}
        for text in texts
    ]
    return json.dumps({"lessons": lessons})


def learned(result: Result) -> Lessons:
    """Return the lessons of a project that must have been delivered."""
    assert result.overview.run.status == "success", result.overview.run.error
    assert result.overview.run.output == result.overview.artifacts["delivery"]
    return Lessons.model_validate(result.overview.artifacts["lessons"])


async def test_lessons_are_kept_with_their_provenance(develop: Develop) -> None:
    """The agent reads what sent work back and how it was mended; its lessons lie beside the evidence."""
    wrong = edit("calc.py", "raise NotImplementedError('add')", "return a - b")
    right = edit("calc.py", "return a - b", "return a + b  # mended")
    finding = {"file": "calc.py", "text": "say what add returns", "blocking": True}
    blocking = json.dumps({"summary": "No.", "findings": [finding]})
    documented = edit("calc.py", "  # mended", "  # the sum")
    result = await develop(
        script(
            code__T1__r1=[wrong, submit()],
            code__T1__r2=[right, submit()],
            code__T1__r3=[documented, submit()],
            review__T1__r2=[blocking],
            retrospect=[written("Check signs.", f"The key {KEY} is not needed.")],
        )
    )
    lessons = learned(result)
    assert [lesson.text for lesson in lessons.items] == ["Check signs.", "The key [secret] is not needed."]
    delivery = result.overview.artifacts["delivery"]
    origin = lessons.items[0].provenance
    assert (origin.project, origin.commit) == (result.overview.project.id, delivery["commit"])
    assert (origin.tasks, origin.criteria, origin.agent) == (["T1"], ["C1"], "retrospect")
    folder = Path(delivery["report"]).parent
    assert "Check signs." in (folder / "lessons.md").read_text()
    assert Lessons.model_validate_json((folder / "lessons.json").read_text()) == lessons

    asked = str(result.model.requests[-1].messages[-1].content)
    for fact in ("Criterion C1 does not hold yet", "say what add returns", "# the sum", "2 of 2 passed"):
        assert fact in asked
    assert KEY not in json.dumps([event.data for event in result.events if event.kind.startswith("lessons")])


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        pytest.param([], "no line 1 for retrospect", id="the model is gone"),
        pytest.param(["nothing", "still nothing"], "does not fit its schema", id="malformed, twice"),
    ],
)
async def test_lessons_that_fail_leave_the_delivery_as_it_is(
    develop: Develop, answers: list[Line], why: str
) -> None:
    """The project is delivered; an event and the empty lessons say why there are none."""
    result = await develop(script(retrospect=answers))
    lessons = learned(result)
    assert lessons.items == []
    assert why in lessons.why_none
    (missed,) = result.of("lessons_missed")
    assert why in missed["reason"]
    assert not (Path(result.overview.artifacts["delivery"]["report"]).parent / "lessons.md").exists()


async def test_lessons_are_not_waited_for_long(develop: Develop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that hangs holds a finished project up for a bounded time only."""
    monkeypatch.setattr(learning, "LEARN_SECONDS", 0.3)
    result = await develop(script(retrospect=[Fault("hang")]))
    assert "No answer came" in learned(result).why_none


async def test_lessons_that_cannot_be_written_leave_the_delivery_as_it_is(settings: Settings) -> None:
    """They are stored and shown all the same."""
    model = ScriptedModel(script(retrospect=[written("Check signs.")]))
    async with system_of(settings, model) as system:
        project = await system.engine.launch(
            Launch(requirement="A calculator.", model=MODEL, approvals="auto")
        )
        (settings.home / "projects" / str(project.id) / "report" / "lessons.md.new").mkdir(parents=True)
        async with asyncio.timeout(LONGEST_SECONDS):
            overview = await stopped(system, project.id)
        result = Result(overview, await system.engine.log.read(project.id, limit=10_000), model)
    assert [lesson.text for lesson in learned(result).items] == ["Check signs."]
    assert "cannot be written" in result.of("lessons_missed")[0]["reason"]


async def test_a_spent_budget_skips_lessons(settings: Settings) -> None:
    """What is left is not overdrawn for them, and the delivery stands."""
    model = ScriptedModel(script(retrospect=[written("Check signs.")]), cost_usd=Decimal("0.10"))
    async with system_of(settings, model) as system:
        order: dict[str, Any] = {"requirement": "A calculator.", "model": MODEL, "approvals": "auto"}
        project = await system.engine.launch(Launch(**order, budget_usd=Decimal("1.20")))
        async with asyncio.timeout(LONGEST_SECONDS):
            overview = await stopped(system, project.id)
        assert overview.run.status == "success", overview.run.error
        assert "has spent 1.20 of 1.20 USD" in overview.artifacts["lessons"]["why_none"]
        assert (overview.usage.calls, overview.artifacts["lessons"]["items"]) == (12, [])
