"""Projects over a model catalogue: tiers, a large task, a prohibition, and the response cache."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from phoenix.bootstrap import open_system
from phoenix.domain.run import Event
from phoenix.engine.launch import Launch
from phoenix.errors import SettingInvalid
from phoenix.llm.scripted import ScriptedModel
from phoenix.settings import Settings
from tests.e2e.conftest import LONGEST_SECONDS, stopped
from tests.e2e.script import NO_QUESTIONS, plan, script, task

CATALOGUE = """
models:
  fast: {model: 'openai:s', base_url: 'http://127.0.0.1:9/v1', price: {input: 1, output: 0}}
  standard: {model: 'openai:m', base_url: 'http://127.0.0.1:9/v1', price: {input: 10, output: 0}}
  strong: {model: 'openai:l', base_url: 'http://127.0.0.1:9/v1', price: {input: 100, output: 0}}
agents:
  triage: {tier: fast, cache: true}
"""


def models_of(events: list[Event]) -> dict[str, str]:
    """Return the model that answered each agent, or each task's coder."""
    called = [e.data for e in events if e.kind == "model_called"]
    return {f"{c['agent']} {c['task']}".strip(): c["model"] for c in called}


async def test_agents_take_their_tiers_and_a_large_task_the_next(settings: Settings, tmp_path: Path) -> None:
    """A second project's triage is answered from the cache, and what it forbids is not asked."""
    path = tmp_path / "models.yaml"
    path.write_text(CATALOGUE)
    settings = settings.model_copy(update={"models": path})
    large = task(2, ["C2"], ["calc.py"]) | {"size": "L"}
    lines = script(question=[NO_QUESTIONS] * 2, decompose=[plan(task(1, ["C1"], ["calc.py"]), large)])
    given = {name: ScriptedModel(lines, name=name) for name in ("openai:s", "openai:m", "openai:l")}
    async with (
        open_system(settings, backends=given) as system,
        system.engine.worker(),
        asyncio.timeout(LONGEST_SECONDS),
    ):
        first = await system.engine.launch(
            Launch(requirement="A calculator.", model="auto", approvals="auto")
        )
        overview = await stopped(system, first.id)
        assert overview.run.status == "success", overview.run.error
        events = await system.engine.log.read(first.id, limit=10_000)
        answered = models_of(events)
        assert answered["triage"] == "openai:s"
        assert (answered["specify"], answered["decompose"]) == ("openai:l", "openai:l")
        assert (answered["code T1/r1"], answered["review T1/r1"]) == ("openai:m", "openai:m")
        assert (answered["code T2/r1"], answered["review T2/r1"]) == ("openai:l", "openai:l")
        told = {(e.data["agent"], e.data["task"]) for e in events if e.kind == "model_routed"}
        assert told == {("code", "T2/r1"), ("review", "T2/r1")}
        calls = [e.data for e in events if e.kind == "model_called"]
        per_call = {"openai:s": "0.0001", "openai:m": "0.001", "openai:l": "0.01"}
        assert overview.usage.cost_usd == sum(Decimal(per_call[c["model"]]) for c in calls)

        order = Launch(requirement="A calculator.", model="auto,-strong", approvals="ask")
        second = await system.engine.launch(order)
        await stopped(system, second.id)
        events = await system.engine.log.read(second.id, limit=10_000)
        calls = [e.data for e in events if e.kind == "model_called"]
        assert (calls[0]["agent"], calls[0]["cached"], calls[0]["cost_usd"]) == ("triage", True, "0")
        assert "openai:l" not in {c["model"] for c in calls}
        routed = [e.data for e in events if e.kind == "model_routed"]
        assert [(r["agent"], r["alias"], r["reason"]) for r in routed] == [
            ("specify", "standard", "the tier of specify, but strong is forbidden")
        ]


async def test_a_missing_key_stops_the_start(settings: Settings, tmp_path: Path) -> None:
    """Before anything is taken, with the alias's name; a process that asks no model starts."""
    path = tmp_path / "models.yaml"
    path.write_text("models: {fast: {model: 'openai:s', key_env: NOBODY_HAS_IT}}")
    settings = settings.model_copy(update={"models": path})
    with pytest.raises(SettingInvalid, match=r"alias fast .* needs NOBODY_HAS_IT"):
        async with open_system(settings):
            pass
    async with open_system(settings, execution=False):
        pass
