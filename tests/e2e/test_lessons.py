"""What a delivered project taught, and that nothing about it can take the delivery back."""

from __future__ import annotations

import asyncio
import json
import subprocess
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
from tests.e2e.script import MODEL, SMALL, criterion, edit, script, submit

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


def repository_at(folder: Path) -> str:
    """Make a repository in which add subtracts, and return its path."""
    folder.mkdir()
    (folder / "calc.py").write_text("def add(a: int, b: int) -> int:\n    return a - b\n")
    named = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org"]
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "Begin"]):
        subprocess.run([*named, *command], cwd=folder, check=True)
    return str(folder)


def small_script(**lines: list[Line]) -> dict[str, list[Line]]:
    """Return a script of the short path that mends add at once; `lines` replace agents'."""
    framed = {
        "title": "Mend add",
        "summary": "add subtracts.",
        "requirements": [{"id": "R1", "text": "add adds", "criteria": [criterion(1, "add(2, 2) is 4")]}],
        "non_goals": [],
        "assumptions": [],
    }
    return {"triage": [SMALL], "frame": [json.dumps(framed)], "code": [MENDED, TESTED, HANDED_IN]} | lines


TEST = "from calc import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n"
MENDED, TESTED = edit("calc.py", "a - b", "a + b"), edit("tests/test_calc.py", "", TEST)
HANDED_IN = submit(("C1", "tests/test_calc.py::test_add"))


async def test_the_short_path_keeps_its_requirement_without_a_call(develop: Develop, tmp_path: Path) -> None:
    """What went well at once has nothing to tell: no model is asked, and the next project still finds it."""
    result = await develop(small_script(), repository=repository_at(tmp_path / "calc"))
    assert learned(result) == Lessons(delivery=learned(result).delivery)
    assert len(result.model.requests) == len(small_script()["code"]) + 2
    (kept,) = result.of("memory_written")
    assert len(kept["items"]) == 1
    assert result.of("lessons_learned") == result.of("lessons_missed") == []


async def test_the_short_path_learns_from_what_sent_it_back(develop: Develop, tmp_path: Path) -> None:
    """One call more, which sees what was wrong and what mended it; the lesson is remembered."""
    model = small_script(
        # Its test is named wrongly at first, so that the criterion is not shown to hold.
        code=[MENDED, TESTED, submit(), edit("calc.py", "a + b", "a + b  # the sum"), HANDED_IN],
        retrospect=[written("Name the test of each criterion when you submit.")],
    )
    result = await develop(model, repository=repository_at(tmp_path / "calc"))
    (lesson,) = learned(result).items
    assert (lesson.provenance.tasks, lesson.provenance.criteria) == (["T1"], ["C1"])
    asked = str(result.model.requests[-1].messages[-1].content)
    assert result.model.requests[-1].caller.agent == "retrospect"
    assert "C1 is not shown to hold: no test was named for it" in asked
    assert "handed_in_as: It is done." in asked
    fix = asked.partition("What T1 changed after it was first sent back")[2].partition("The whole change")[0]
    assert "+    return a + b  # the sum" in fix
    assert "test_add" not in fix
    assert len(result.of("memory_written")[0]["items"]) == 2
