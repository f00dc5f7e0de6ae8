"""Prompt caching at the provider: Anthropic's real client against a server of the test."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

from phoenix.agents.prompting import render
from phoenix.domain.work import TaskWork
from phoenix.llm.access import open_alias
from phoenix.llm.catalogue import parse_catalogue
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import Heard, Open
from tests.unit.llm.server import Reply, Server

MARK = {"type": "ephemeral"}
ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "ok"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 100,
        "cache_read_input_tokens": 900,
        "cache_creation_input_tokens": 0,
        "output_tokens": 20,
    },
}


@tool
def bash(command: str) -> str:
    """Run a command."""
    return ""


async def asked(server: Server, settings: Settings, open_over: Open, capabilities: str) -> Any:
    """Return what the server was asked by an agent with a system prompt and a tool."""
    entry = parse_catalogue(
        f"models: {{c: {{model: 'anthropic:claude-x', base_url: '{server.url}', key_env: OPENAI_API_KEY, "
        f"capabilities: {capabilities}, price: {{input: 10, output: 50, cache_read: 1}}}}}}"
    ).models["c"]
    server.replies = [Reply(body=ANSWER)]
    model = open_over(open_alias("c", entry, settings)).chat(Caller("code", "T1/r1")).bind_tools([bash])
    await model.ainvoke([SystemMessage("You code."), HumanMessage("Go")])
    return server.requests[0]


async def test_anthropic_is_told_what_to_cache(
    server: Server, settings: Settings, open_over: Open, usage: MemoryUsage, events: Heard
) -> None:
    """System prompt and last message are marked; what was cached is counted, and costs its own price."""
    said = await asked(server, settings, open_over, "[tools, prompt_cache]")
    assert said["system"] == [{"type": "text", "text": "You code.", "cache_control": MARK}]
    assert said["cache_control"] == MARK
    assert said["tools"][0]["name"] == "bash"
    # The server does not stream, which is found out by a call that it may bill.
    (call,) = [call for call in usage.calls if not call.broken]
    assert (call.input_tokens, call.cached_tokens, call.output_tokens) == (1000, 900, 20)
    assert call.cost_usd == Decimal("0.0029")
    assert (await usage.total()).cached_tokens == 900
    assert [told["cached_tokens"] for told in events.of("model_called")] == [0, 900]


async def test_a_model_without_prompt_cache_gets_no_marks(
    server: Server, settings: Settings, open_over: Open
) -> None:
    """Some proxies refuse them."""
    said = await asked(server, settings, open_over, "[tools]")
    assert "cache_control" not in str(said)


@pytest.mark.parametrize("task", ["T1", "T2"])
def test_the_coders_system_prompt_is_the_same_for_every_task(task: str, tmp_path: Path) -> None:
    """So that tasks side by side share its prefix."""

    def system(name: str) -> str:
        work = TaskWork(spec=f"sha256:{'0' * 64}", task=name, title=name, brief=name, base="0" * 40)
        values = {
            "spec": name,
            "interfaces": "",
            "guidance": name,
            "layout": name,
            "map": "",
            "problems": "",
            "recalled": "",
        }
        return str(
            render("code", task=work, sealed_folder="tests/acceptance", tests="", diff="", **values)[
                0
            ].content
        )

    assert system(task) == system("T9")
