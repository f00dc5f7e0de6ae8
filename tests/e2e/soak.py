"""Real projects whose model fails by rate, and what must hold all the same.

Shared by the soak's test and by `benchmarks/model_soak.py`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from langchain_core.messages import ToolMessage
from langchain_core.outputs import ChatGenerationChunk

from phoenix.bootstrap import System, open_system
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch, Overview
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.chaos import ChaosModel, ChaosOptions
from phoenix.llm.scripted import Line, ScriptedModel
from phoenix.settings import Settings
from tests.e2e.script import ADD, CONTRACT, FINE, MUL, SEAL, plan, spec, submit, task

PRICE = Decimal("0.01")
CALM_CALLS = 12
"""Of a project whose model never fails: six about the whole, and three for each task."""
ANSWERS = {
    "question": json.dumps({"questions": []}),
    "specify": spec(),
    "decompose": plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"])),
    "contract": CONTRACT,
    "seal": SEAL,
    "review": FINE,
    "retrospect": json.dumps({"lessons": []}),
}
EDITS = {"T1": [ADD], "T2": [MUL]}


def line(request: ModelRequest) -> Line:
    """Return what a model that remembers nothing says: all depends on the conversation."""
    agent, task_name = request.caller.agent, request.caller.task.partition("/")[0]
    if agent != "code":
        return ANSWERS[agent]
    said = [m.text for m in request.messages if isinstance(m, ToolMessage) and m.name == "edit_file"]
    # A repair task may find that its edit is there already.
    done = sum(text.startswith(("Changed", "Not changed")) for text in said)
    edits = EDITS.get(task_name, [ADD, MUL])
    return edits[done] if done < len(edits) else submit()


class WatchedChaos(ChaosModel):
    """Keeps what it streamed of answers that broke off, and counts its calls."""

    endpoint = "chaos:soak"
    """One for all projects, so that they share a circuit."""

    def __init__(self, inner: ScriptedModel, options: ChaosOptions, *, idle_seconds: float) -> None:
        super().__init__(inner, options, idle_seconds=idle_seconds)
        self.calls = 0
        self.partial: set[str] = set()

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.calls += 1
        return await super().answer(request)

    async def _pieces(self, *args: Any) -> AsyncIterator[ChatGenerationChunk]:
        text = ""
        try:
            async for piece in super()._pieces(*args):
                text += piece.text
                yield piece
        finally:
            self.partial.add(text.strip())


@dataclass
class Soak:
    """What came of all projects."""

    overviews: dict[str, Overview] = field(default_factory=dict)
    models: dict[str, WatchedChaos] = field(default_factory=dict)
    budget: Decimal = Decimal(0)
    committed: list[str] = field(default_factory=list)
    """Accepted answers as text: what was said, and the arguments of each call."""

    @property
    def delivered(self) -> list[str]:
        return [n for n, o in self.overviews.items() if o.run.status == "success"]

    @property
    def failed(self) -> dict[str, str]:
        """Projects that failed with a reason, and the reason."""
        return {n: o.run.error.message for n, o in self.overviews.items() if o.run.error is not None}

    @property
    def lost(self) -> list[str]:
        """Projects that neither were delivered nor failed with a reason."""
        return sorted(self.models.keys() - set(self.delivered) - self.failed.keys())

    @property
    def partial(self) -> list[str]:
        """Accepted answers that are only the beginning of one."""
        whole = {*ANSWERS.values(), ""}
        broken = {text for model in self.models.values() for text in model.partial} - whole
        return [text for text in self.committed if text in broken]

    @property
    def over_budget(self) -> list[str]:
        """Projects whose calls cost more than they might, or an unknown sum."""
        costs = {name: o.usage.cost_usd for name, o in self.overviews.items()}
        return [name for name, cost in costs.items() if cost is None or cost > self.budget]

    @property
    def injected(self) -> Counter[str]:
        return sum((model.injected for model in self.models.values()), Counter())

    @property
    def ratio(self) -> float:
        """Calls that the delivered projects made, by those that they would have needed."""
        calls = sum(self.models[name].calls for name in self.delivered)
        return calls / (CALM_CALLS * len(self.delivered)) if self.delivered else float("inf")


def impatient(settings: Settings) -> Settings:
    """Return settings with short deadlines and waits, so that a soak takes its time for projects."""
    short = {"model_idle_seconds": 0.4, "model_answer_seconds": 1.0, "model_retry_seconds": 0.02}
    return settings.model_copy(update=short)


async def soak(
    settings: Settings,
    folder: Path,
    *,
    projects: int,
    workers: int = 1,
    rate: float = 0.3,
    seed: int = 1,
    budget: Decimal = Decimal(1),
) -> Soak:
    """Let projects run to their end on workers of this process, each with connections of its own."""
    found = Soak(budget=budget)
    inner = ScriptedModel(line, name="scripted:soak", cost_usd=PRICE)
    for number in range(projects):
        options = ChaosOptions(rate, seed=seed * 1000 + number)
        found.models[f"soak:{number}"] = WatchedChaos(
            inner, options, idle_seconds=settings.model_idle_seconds
        )
    record = folder / "soak.jsonl"
    async with AsyncExitStack() as stack:
        systems: list[System] = []
        for _ in range(workers):
            opened = open_system(settings, backends=found.models, record=record)
            systems.append(await stack.enter_async_context(opened))
            await stack.enter_async_context(systems[-1].engine.worker())
        ids = {name: await _launch(systems[0], name, budget) for name in found.models}
        found.overviews = await _ended(systems[0], ids)
    # Not `read_recording`: it takes calls that are the same for one.
    calls = [json.loads(line) for line in record.read_text().splitlines()[1:]]
    found.committed = [text for call in calls for text in _texts(call["content"], call["tool_calls"])]
    return found


def _texts(content: Any, calls: Sequence[dict[str, Any]]) -> list[str]:
    said = [content.strip()] if isinstance(content, str) and content.strip() else []
    return [*said, *(json.dumps(call["args"]) for call in calls)]


async def _launch(system: System, name: str, budget: Decimal) -> UUID:
    project = await system.engine.launch(
        Launch(requirement="A calculator.", model=name, approvals="auto", path="full", budget_usd=budget)
    )
    return project.id


async def _ended(system: System, ids: dict[str, UUID]) -> dict[str, Overview]:
    """Return the overviews of projects that ended."""
    found: dict[str, Overview] = {}
    while len(found) < len(ids):
        for name in ids.keys() - found.keys():
            overview = await system.engine.overview(ids[name])
            if overview.run.status in FINISHED and all(r.status in FINISHED for r in overview.children):
                found[name] = overview
        await asyncio.sleep(0.1)
    return found
