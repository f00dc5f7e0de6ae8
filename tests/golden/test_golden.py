"""What earlier releases left in databases still loads and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command

from phoenix.checkpoints.saver import open_saver
from phoenix.domain.run import Usage
from phoenix.domain.schemas import models, schemas
from tests.golden.graph import PLAN, REQUEST, SPEC, THREAD, golden_graph
from tests.golden.make import SCHEMAS, pretty
from tests.golden.rows import write_rows

RELEASES = sorted(Path(__file__).parent.glob("checkpoints-*.json"))


def test_there_are_golden_checkpoints() -> None:
    """The first release's checkpoints are kept."""
    assert "checkpoints-0.1.0.json" in [path.name for path in RELEASES]


@pytest.mark.parametrize("release", RELEASES, ids=lambda path: path.stem)
async def test_a_release_s_checkpoints_resume(release: Path, migrated_database_url: str) -> None:
    """A run that an earlier release left at an approval goes on to its end with the same values."""
    where: Any = {"configurable": {"thread_id": THREAD}}
    async with open_saver(migrated_database_url) as saver:
        await write_rows(migrated_database_url, json.loads(release.read_text()))
        graph = golden_graph().compile(checkpointer=saver)
        paused = await graph.aget_state(where)
        assert paused.next == ("approve",)
        assert (paused.values["request"], paused.values["spec"]) == (REQUEST, SPEC)
        assert paused.values["messages"][1].tool_calls[0]["args"] == {"path": "README.md", "lines": [1, 9]}
        (question,) = paused.interrupts
        state = await graph.ainvoke(Command(resume={question.id: {"verdict": "approve"}}), where)
        (question,) = state["__interrupt__"]
        done = await graph.ainvoke(Command(resume={question.id: True}), where)
    assert done["answer"] == {"verdict": "approve"}
    assert done["plan"] == PLAN
    assert done["usage"] == Usage(calls=2, input_tokens=10, output_tokens=5, cost_usd=None)
    assert [(result.task, result.status) for result in done["results"]] == [("T1", "done"), ("T2", "done")]
    assert len(done["messages"]) == 3


def test_models_change_only_on_purpose() -> None:
    """A changed model is seen in review: its JSON Schema is in the repository.

    When the change is meant, give new fields a default (older checkpoints have none) and run
    `python -m tests.golden.make schemas`.
    """
    kept = json.loads(SCHEMAS.read_text())
    now = json.loads(pretty(schemas()))
    changed = sorted(name for name in kept.keys() | now.keys() if kept.get(name) != now.get(name))
    assert not changed, f"changed models: {changed}; if meant, run: python -m tests.golden.make schemas"


def test_every_model_is_described() -> None:
    """Each model of the domain has a schema and says what it is."""
    assert {"Request", "Spec", "Plan", "TaskResult", "Evidence", "Delivery"} <= schemas().keys()
    assert [model.__name__ for model in models() if not (model.__doc__ or "").strip()] == []
