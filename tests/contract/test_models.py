"""Port `Models`, over a provider, a script and a recording of that script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from phoenix.domain.frozen import Frozen
from phoenix.errors import OutputUnusable, PhoenixError
from phoenix.llm.calls import Backend
from phoenix.llm.models import ProjectModels, open_models
from phoenix.llm.scripted import Line, Say, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller, Models
from phoenix.settings import load_settings
from tests.unit.llm.server import Reply, serving


class Note(Frozen):
    """A note."""

    text: str


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing at {where}"


ASK = [HumanMessage("Write a note.")]
SCRIPT: dict[str, list[Line]] = {
    "requirement": [Note(text="hello")],
    "reviewer": ["no", "still no"],
    "coding": [Say(calls=[("look", {"where": "home"})]), "Done."],
}


class Log:
    """Events in a list."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    async def emit(self, kind: str, **data: Any) -> None:
        self.kinds.append(kind)


async def answers(models: Models) -> list[Any]:
    """Do what the script expects and return all that came of it."""
    note = await models.structured(Caller("requirement"), ASK, Note)
    try:
        await models.structured(Caller("reviewer"), ASK, Note)
    except OutputUnusable as error:
        problem: PhoenixError = error
    agent = create_agent(models.chat(Caller("coding", "T1")), [look])
    messages = (await agent.ainvoke({"messages": [("user", "go")]}))["messages"]
    return [note, str(problem), [m.text for m in messages]]


@pytest.fixture(params=["provider", "script", "recording"])
async def models(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ProjectModels]:
    """Models over each backend, opened as the composition root does it."""
    monkeypatch.chdir(tmp_path)
    name, backend, record = "scripted:test", None, None

    def opened(name: str, backend: Backend | None = None, record: Path | None = None) -> ProjectModels:
        return open_models(
            load_settings().model_copy(update={"home": tmp_path}),
            name,
            usage=MemoryUsage(),
            events=Log(),
            backend=backend,
            record=record,
        )

    if request.param == "provider":
        async with serving() as server:
            monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
            server.replies = [
                Reply('{"text": "hello"}'),
                Reply("no"),
                Reply("still no"),
                Reply(calls=[("look", '{"where": "home"}')]),
                Reply("Done."),
            ]
            yield opened("openai:test")
        return
    backend = ScriptedModel(SCRIPT)
    if request.param == "recording":
        record = tmp_path / "run.jsonl"
        await answers(opened(name, backend, record))
        name, backend, record = f"recorded:{record}", None, None
    yield opened(name, backend, record)


async def test_backends_answer_alike(models: ProjectModels) -> None:
    """Typed answers, honest failure, tool calls and counts do not depend on who answers."""
    note, problem, said = await answers(models)
    assert note == Note(text="hello")
    assert "the reviewer agent's note" in problem.lower()
    assert said == ["go", "", "nothing at home", "Done."]
    usage = await models.usage()
    assert (usage.calls, usage.input_tokens, usage.output_tokens) == (5, 500, 100)


async def test_only_a_recording_says_that_it_is_one(
    models: ProjectModels, request: pytest.FixtureRequest
) -> None:
    """Screens can tell."""
    assert models.is_recording == ("[recording]" in request.node.name)
    assert models.is_recording == models.name.startswith("recorded:")
