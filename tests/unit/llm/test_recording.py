"""Recordings: replayed after a restart and on another day, refused when they do not fit."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.tools import BaseTool, tool

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelRejected, ModelUnknown, RecordingMismatch, RecordingMissing, SettingInvalid
from phoenix.llm.calls import ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed
from phoenix.llm.models import ProjectModels
from phoenix.llm.recording import RecordedModel, Recorder, read_recording
from phoenix.llm.scripted import Line, Say, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.unit.llm.rig import Heard, Open

CODER = Caller("coding", "T1")


class Verdict(Frozen):
    """A verdict."""

    ok: bool


def runner(output: str) -> BaseTool:
    """Return a tool `bash` that prints the same each time."""

    @tool
    def bash(command: str) -> str:
        """Run a command."""
        return output

    return bash


async def work(
    models: ProjectModels, tool_: BaseTool, *, system: str = "You code.", ask: str = "Go"
) -> list[AnyMessage]:
    """Run an agent that calls the tool once and then says that it is done."""
    agent = create_agent(models.chat(CODER), [tool_], system_prompt=system)
    return list((await agent.ainvoke({"messages": [("user", ask)]}))["messages"])


SCRIPT: dict[str, list[Line]] = {"coding": [Say(calls=[("bash", {"command": "pytest"})]), "Done."]}


@pytest.fixture
async def recorded(tmp_path: Path, open_over: Open) -> Path:
    """A recording of one agent's work."""
    path = tmp_path / "run.jsonl"
    model = ScriptedModel(SCRIPT, name="openai:gpt-5.2", cost_usd=Decimal("0.25"))
    await work(open_over(model, record=path), runner("2 passed in 0.03s"))
    return path


def replaying(path: Path) -> RecordedModel:
    """Return a backend as a fresh process would open it."""
    return RecordedModel(read_recording(path))


async def test_a_replay_gives_the_same_answers_at_the_recorded_cost(
    recorded: Path, open_over: Open, usage: MemoryUsage, events: Heard
) -> None:
    """Another duration is the same result; figures are the recording's, marked as such."""
    usage.calls.clear()
    events.all.clear()
    models = open_over(replaying(recorded), budget="0.10")
    messages = await work(models, runner("2 passed in 9.99s"))
    assert messages[-1].text == "Done."
    assert models.is_recording
    assert [(c.recorded, c.cost_usd, c.model) for c in usage.calls] == [
        (True, Decimal("0.25"), "openai:gpt-5.2")
    ] * 2
    assert {kind for kind, _ in events.all} == {"model_called"}


async def test_every_turn_can_be_found_by_a_fresh_process(recorded: Path, open_over: Open) -> None:
    """The turn is counted from the conversation, not from calls made."""
    before = await work(open_over(replaying(recorded)), runner("2 passed in 0.5s"))
    bound = open_over(replaying(recorded)).chat(CODER).bind_tools([runner("")])
    answer = await bound.ainvoke([SystemMessage("You code."), *before[:-1]])
    assert answer.text == "Done."


async def test_other_results_fail_with_what_differs(recorded: Path, open_over: Open) -> None:
    """The message names agent, task and turn, and shows the difference."""
    with pytest.raises(RecordingMismatch, match="agent coding, task T1, turn 1: bash now gives") as caught:
        await work(open_over(replaying(recorded)), runner("1 passed, 1 failed in 0.03s"))
    assert "-2 passed in <seconds>\n+1 passed, 1 failed in <seconds>" in str(caught.value)


async def test_other_tools_fail_with_their_names(recorded: Path, open_over: Open) -> None:
    """A new parameter or a new tool is named."""

    @tool("bash")
    def wider(command: str, timeout: int = 5) -> str:
        """Run a command."""
        return ""

    with pytest.raises(RecordingMismatch, match="turn 0: tool bash takes other parameters"):
        await work(open_over(replaying(recorded)), wider)


@pytest.mark.parametrize("changed", [{"system": "You write code."}, {"ask": "Begin"}])
async def test_a_changed_prompt_warns_and_goes_on(
    changed: dict[str, str], recorded: Path, open_over: Open, events: Heard
) -> None:
    """Each answer given to another prompt than it was recorded for leaves an event."""
    messages = await work(open_over(replaying(recorded)), runner("2 passed in 1.0s"), **changed)
    assert messages[-1].text == "Done."
    told = events.of("recording_prompt_changed")
    assert told[0] == {"agent": "coding", "task": "T1", "turn": 0}


async def test_an_unknown_call_says_which(recorded: Path, open_over: Open) -> None:
    """An agent that was never recorded is named."""
    models = open_over(replaying(recorded))
    with pytest.raises(
        RecordingMissing, match=r"run.jsonl has no answer for agent reviewer, task T1, turn 0"
    ):
        await models.chat(Caller("reviewer", "T1")).ainvoke("hi")


async def test_rounds_of_one_agent_are_told_apart_by_their_prompts(tmp_path: Path, open_over: Open) -> None:
    """Each prompt gets its own answer, in whatever order a resumed process asks."""
    path = tmp_path / "run.jsonl"
    models = open_over(ScriptedModel({"reviewer": [Verdict(ok=False), Verdict(ok=True)]}), record=path)
    reviewer = Caller("reviewer")
    for ask in ("round 1", "round 2"):
        await models.structured(reviewer, [HumanMessage(ask)], Verdict)
    replay = open_over(replaying(path))
    second = await replay.structured(reviewer, [HumanMessage("round 2")], Verdict)
    first = await replay.structured(reviewer, [HumanMessage("round 1")], Verdict)
    assert (first.ok, second.ok) == (False, True)


async def test_reworded_rounds_keep_their_order(tmp_path: Path, open_over: Open) -> None:
    """When every prompt has changed, answers are given in the order of recording, none twice."""
    path = tmp_path / "run.jsonl"
    models = open_over(ScriptedModel({"reviewer": [Verdict(ok=False), Verdict(ok=True)]}), record=path)
    for ask in ("round 1", "round 2"):
        await models.structured(Caller("reviewer"), [HumanMessage(ask)], Verdict)
    replay = open_over(replaying(path))
    answers = [
        (await replay.structured(Caller("reviewer"), [HumanMessage(ask)], Verdict)).ok
        for ask in ("try one", "try two", "try one")
    ]
    assert answers == [False, True, False]


async def test_a_repair_call_is_replayed(tmp_path: Path, open_over: Open, events: Heard) -> None:
    """A misfit and its repair are two calls of one conversation."""
    path = tmp_path / "run.jsonl"
    script: dict[str, list[Line]] = {"reviewer": ["no idea", Verdict(ok=True)]}
    await open_over(ScriptedModel(script), record=path).structured(
        Caller("reviewer"), [HumanMessage("?")], Verdict
    )
    again = await open_over(replaying(path)).structured(Caller("reviewer"), [HumanMessage("?")], Verdict)
    assert again.ok
    assert [e["repair"] for e in events.of("structured_answered")] == ["call", "call"]


async def test_a_call_repeated_after_a_crash_replaces_the_first(tmp_path: Path, open_over: Open) -> None:
    """The later of two lines of the same call counts; a line cut by the crash is dropped."""
    path = tmp_path / "run.jsonl"
    await open_over(ScriptedModel({"coding": ["one"]}), record=path).chat(CODER).ainvoke("hi")
    with path.open("ab") as file:
        file.write(b'{"agent":"coding","task":"T1","tu')
    assert len(read_recording(path).calls) == 1
    await open_over(ScriptedModel({"coding": ["two"]}), record=path).chat(CODER).ainvoke("hi")
    answer = await open_over(replaying(path)).chat(CODER).ainvoke("hi")
    assert answer.text == "two"


async def test_a_recording_can_be_read(recorded: Path) -> None:
    """A header says what it is; each line is a call with readable answers."""
    header, first, second = map(json.loads, recorded.read_text().splitlines())
    assert (header["format"], header["version"], header["model"]) == (
        "phoenix-recording",
        1,
        "openai:gpt-5.2",
    )
    assert first["tool_calls"][0]["args"] == {"command": "pytest"}
    assert second["results"][0]["head"] == "2 passed in <seconds>"


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"hello\n",
        b'{"format":"other"}\n',
        b'{"format":"phoenix-recording","version":1}\n{}\n',
        b"\xff\xfe",
    ],
)
def test_what_is_no_recording_is_refused_at_start(content: bytes | None, tmp_path: Path) -> None:
    """A missing or foreign file is an unknown model."""
    path = tmp_path / "run.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelUnknown, match=r"run\.jsonl"):
        read_recording(path)


async def test_runs_of_one_project_share_a_recording(tmp_path: Path, open_over: Open) -> None:
    """Recorders opened while others write lose and break no line."""
    path = tmp_path / "run.jsonl"
    model = ScriptedModel(lambda request: request.caller.task * 2000)

    async def one(number: int) -> None:
        await open_over(model, record=path).chat(Caller("coding", f"T{number}")).ainvoke("hi")

    await asyncio.gather(*(one(number) for number in range(40)))
    assert len(read_recording(path).calls) == 40


async def test_a_recorder_waits_for_another(tmp_path: Path, open_over: Open) -> None:
    """A line is not written while somebody else holds the file."""
    path = tmp_path / "run.jsonl"
    chat = open_over(ScriptedModel(lambda _: "ok"), record=path).chat(CODER)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        call = asyncio.create_task(chat.ainvoke("hi"))
        await asyncio.sleep(0.1)
        assert not call.done()
    await call
    assert len(read_recording(path).calls) == 1


def test_recording_never_writes_into_a_foreign_file(tmp_path: Path) -> None:
    """A file that is not a recording is left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    with pytest.raises(SettingInvalid, match="is not a recording"):
        Recorder(path, model="openai:x")
    assert path.read_text() == "dear diary"


class TextOnly(ScriptedModel):
    """A provider that knows neither schemas nor tools: answers come in the text tier."""

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return {"tools": "refused"}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return None

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        if request.options:
            raise CallFailed(ModelRejected())
        return await super().answer(request)


async def test_an_answer_of_the_text_tier_is_found_again(
    tmp_path: Path, open_over: Open, events: Heard
) -> None:
    """A replay asks without the schema's text that the provider needed, and it is the same call."""
    path = tmp_path / "run.jsonl"
    question = [HumanMessage("Is it?")]
    model = TextOnly({"review": ['{"ok": true}']})
    first = await open_over(model, record=path).structured(Caller("review"), question, Verdict)
    assert [m.type for m in model.requests[-1].messages] == ["human", "human"]
    again = await open_over(replaying(path)).structured(Caller("review"), question, Verdict)
    assert (first.ok, again.ok) == (True, True)
    assert events.of("recording_prompt_changed") == []
    assert [e["tier"] for e in events.of("structured_answered")] == ["text", "schema"]
