"""A conversation that grows too long goes on with a summary, and with all that binds the agent."""

from __future__ import annotations

from langchain_core.messages import HumanMessage

from phoenix.agents.summarising import NAME, SUMMARISE_AT
from phoenix.llm.calls import ModelRequest
from phoenix.llm.scripted import Line, Say
from tests.integration.agents.conftest import MakeBench
from tests.integration.agents.test_coding import ADD, SUBMIT, Crash, work
from tests.integration.agents.test_steering import coding, said, steering

BIG = "python -c \"print(('x' * 98 + '\\n') * 400)\" > /tmp/big && cp /tmp/big big.txt"
READ = Say(calls=[("read_file", {"path": "big.txt"})] * 5)
"""About 45,000 tokens: the second time is too much."""
LINES: list[Line] = [
    Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})]),
    Say(calls=[("bash", {"command": BIG})]),
    READ,
    Say("Once more.", calls=READ.calls),
    Say(calls=[("bash", {"command": "rm big.txt"})]),
    SUBMIT,
]


def shown(request: ModelRequest) -> list[str]:
    """Return the texts of a request that are from no tool."""
    return [m.text for m in request.messages if isinstance(m, HumanMessage)]


async def test_the_task_stays_and_the_rest_is_summed_up(bench: MakeBench) -> None:
    """The agent reads its task as before, its summary, the change from the folder, and its latest turn."""
    made = await bench({"code": LINES, "summarise": ["calc.py has add; big.txt was useless."]})
    done = await work(made)
    assert done.submitted
    first, after = [r for r in made.model.requests if r.caller.agent == "code"][0::4]
    (asked,) = [r for r in made.model.requests if r.caller.agent == "summarise"]
    task, summary = shown(after)
    assert task == shown(first)[0]
    assert "add(2, 2) returns 4" in task
    assert "big.txt was useless." in summary
    assert "+    return a + b" in summary
    assert [m.type for m in after.messages[3:]] == ["ai", *["tool"] * 5]
    assert after.messages[3].text == "Once more."

    said_before = shown(asked)[-1]
    assert "add(2, 2) returns 4" in said_before
    assert "Called edit_file:" in said_before
    assert "Result of edit_file calc.py" in said_before
    assert "Once more." not in said_before
    (told,) = made.events.of("conversation_summarised")
    assert (told["agent"], told["messages"]) == ("code", 10)
    assert told["tokens"] > SUMMARISE_AT / 3


async def test_what_people_said_stays_word_by_word(bench: MakeBench) -> None:
    """A message that came in the part that is summed up still binds the agent."""

    def script(request: ModelRequest) -> Line:
        if request.caller.agent == "summarise":
            return "Nothing."
        code = [r for r in made.model.requests if r.caller.agent == "code"]
        if len(code) == 1:
            made.steering.messages.append(said(made.ports.project_id, 7, "Keep the name add."))
        return LINES[len(code) - 1]

    made = await bench(script)
    await coding(made)
    last = made.model.requests[-1]
    assert [m.name for m in last.messages if m.name == NAME] == [NAME]
    (text,) = steering(last)
    assert "Keep the name add." in text
    (asked,) = [r for r in made.model.requests if r.caller.agent == "summarise"]
    assert "Keep the name add." not in shown(asked)[-1]


async def test_a_crash_after_the_summary_does_not_lose_it(bench: MakeBench) -> None:
    """The summary is in a checkpoint of its own: the agent goes on with the same one."""

    def script(request: ModelRequest) -> Line:
        if request.caller.agent == "summarise":
            return f"Summary {len(made.model.requests)}."
        code = [r for r in made.model.requests if r.caller.agent == "code"]
        if len(code) == 5:
            raise Crash
        return LINES[len(code) - 1 - (len(code) > 5)]

    made = await bench(script)
    await coding(made, times=2)
    assert len([r for r in made.model.requests if r.caller.agent == "summarise"]) == 1
    assert "Summary 5." in shown(made.model.requests[-1])[1]
