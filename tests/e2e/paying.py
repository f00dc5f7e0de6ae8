"""A flow that asks a real client's model, and a worker of it that ends right after it has paid.

Run as a module it is that worker; its settings come from the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.runtime import Runtime

from phoenix.bootstrap import open_system
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall
from phoenix.flow import step
from phoenix.ports import Caller, Ports
from phoenix.settings import load_settings
from phoenix.storage.journal import JournalRows

CATALOGUE = """
models:
  fast:
    model: openai:test
    base_url: %s/v1
    price: {input: 2, output: 8, cache_read: 0.5, cache_write: 2.5}
tiers: [fast]
agents:
  triage: {cache: true}
"""


@tool
async def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing at {where}"


@step
async def size(text: str, runtime: Runtime[Ports]) -> str:
    """Ask what is cached."""
    answer = await runtime.context.models.chat(Caller("triage")).ainvoke([HumanMessage("Size?")])
    return f"{text} {answer.text}"


@step
async def code(text: str, runtime: Runtime[Ports]) -> str:
    """Run an agent of two turns for a task, then ask once more."""
    chat = runtime.context.models.chat(Caller("code", "T1/r1"))
    agent = create_agent(chat, [look], context_schema=Ports)
    await agent.ainvoke({"messages": [("user", "go")]}, context=runtime.context)  # type: ignore[arg-type]
    return f"{text} {(await chat.ainvoke([HumanMessage('Done?')])).text}"


FLOWS: dict[str, Any] = {"size": size, "pay": size >> code}
PAID = 4
"""Calls of the flow `pay`."""


async def _work() -> None:
    kept = JournalRows.keep

    async def keep(self: JournalRows, key: CallKey, answer: KeptAnswer, call: ModelCall, **more: Any) -> None:
        await kept(self, key, answer, call, **more)
        if not call.cached:
            os.kill(os.getpid(), signal.SIGKILL)

    JournalRows.keep = keep  # type: ignore[method-assign, assignment]
    async with open_system(load_settings(), flows=FLOWS) as system:
        await system.engine.work()


if __name__ == "__main__":
    asyncio.run(_work())
