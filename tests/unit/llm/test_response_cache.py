"""The response cache: who is answered from it, at no cost, and who never is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from phoenix.domain.run import KeptAnswer
from phoenix.errors import DatabaseUnavailable
from phoenix.llm.access import Aliases
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.catalogue import parse_catalogue
from phoenix.llm.models import ProjectModels
from phoenix.llm.recording import Recorder, read_recording
from phoenix.llm.response_cache import AnswerCache, MemoryAnswers, ResponseCache
from phoenix.llm.routing import CatalogueRouter, read_choice
from phoenix.llm.scripted import Say, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import SWIFT, Heard
from tests.unit.llm.test_journal import Died, Dying, World, work
from tests.unit.llm.test_routing import Fruit

CATALOGUE = """
models:
  fast: {model: 'openai:s', price: {input: 1000, output: 0}}
  strong: {model: 'openai:l'}
tiers: [fast, strong]
agents:
  triage: {tier: fast, raised_by: [], cache: true}
  work: {tier: %s}
"""
TRIAGE = Caller("triage")


class Away:
    """A store whose database is gone."""

    async def find(self, request: str) -> KeptAnswer | None:
        raise DatabaseUnavailable

    async def keep(self, request: str, answer: KeptAnswer, *, seconds: float) -> None:
        raise DatabaseUnavailable


class Bench:
    """Runs of one organisation over one store, and one scripted model that numbers its answers."""

    def __init__(self, events: Heard, usage: MemoryUsage) -> None:
        self.events, self.usage = events, usage
        self.now = 0.0
        self.store: AnswerCache = MemoryAnswers(lambda: self.now)
        self.asked: list[str] = []
        self.recorder: Recorder | None = None

    def run(self, *, reads: bool = True, work_tier: str = "fast") -> ProjectModels:
        """Return the models of a new run."""
        catalogue = parse_catalogue(CATALOGUE % work_tier)
        choice = read_choice(catalogue, "auto")
        assert choice is not None

        def answer(model: str) -> ScriptedModel:
            def say(_: object) -> Say:
                self.asked.append(model)
                return Say(f'{{"name": "{len(self.asked)}"}}')

            return ScriptedModel(say, name=model)

        given = {m: answer(m) for m in ("openai:s", "openai:l")}
        opened = Aliases(catalogue, Settings(home=Path("/")), given).open
        router = CatalogueRouter(catalogue, choice, open_alias=opened, events=self.events)
        return ProjectModels(
            router,
            usage=self.usage,
            events=self.events,
            patience=SWIFT,
            recorder=self.recorder,
            cache=ResponseCache(self.store, answering=router.cached, seconds=60, reads=reads),
        )


@pytest.fixture
def bench(events: Heard, usage: MemoryUsage) -> Bench:
    """Return a bench with an empty store."""
    return Bench(events, usage)


async def ask(models: ProjectModels, caller: Caller = TRIAGE, text: str = "Size?", **options: Any) -> str:
    """Ask one question."""
    return str((await models.chat(caller).ainvoke([HumanMessage(text)], **options)).text)


async def test_the_same_request_of_another_run_is_answered_at_no_cost(
    bench: Bench, usage: MemoryUsage
) -> None:
    """It is counted, marked, and costs nothing; the first one costs to the cent."""
    first = await ask(bench.run())
    assert await ask(bench.run(), replace(TRIAGE, task="T2")) == first
    assert bench.asked == ["openai:s"]
    costs = [(c.cached, c.cost_usd, c.input_tokens) for c in usage.calls]
    assert costs == [(False, Decimal("0.1"), 100), (True, Decimal(0), 0)]
    assert [e["cached"] for e in bench.events.of("model_called")] == [False, True]


async def test_a_typed_answer_is_cached_too(bench: Bench) -> None:
    """With the schema it must fit as part of the request."""
    question = [HumanMessage("A fruit?")]
    found = [await bench.run().structured(TRIAGE, question, Fruit) for _ in range(2)]
    assert found == [Fruit(name="1"), Fruit(name="1")]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda b: ask(b.run(), text="Other?"), "another question"),
        (lambda b: ask(b.run(), Caller("work")), "another agent, which has not opted in"),
        (lambda b: ask(b.run(), replace(TRIAGE, attempt=2)), "a failed attempt wants another answer"),
        (lambda b: ask(b.run(), temperature=0.7), "a sample is asked for"),
        (lambda b: ask(b.run(reads=False)), "a run that is tried again"),
    ],
)
async def test_what_wants_another_answer_gets_one(
    bench: Bench, change: Callable[[Bench], Any], why: str
) -> None:
    """A hit here would be wrong."""
    await ask(bench.run())
    await change(bench)
    assert len(bench.asked) == 2, why


async def test_variety_and_agents_that_did_not_opt_in_are_not_kept(bench: Bench) -> None:
    """Neither is found by a later call of the same kind; a temperature of 0 is no variety."""
    for options in ({"temperature": 0.7}, {"n": 3}):
        await ask(bench.run(), **options)
        await ask(bench.run(), **options)
    for _ in range(2):
        await ask(bench.run(), Caller("work"))
    assert len(bench.asked) == 6
    for _ in range(2):
        await ask(bench.run(), temperature=0)
    assert len(bench.asked) == 7


async def test_an_answer_counts_for_its_time(bench: Bench) -> None:
    """Then the model is asked again."""
    await ask(bench.run())
    bench.now = 61.0
    await ask(bench.run())
    assert len(bench.asked) == 2


async def test_a_store_that_is_away_changes_nothing(bench: Bench) -> None:
    """The model is asked."""
    bench.store = Away()
    assert await ask(bench.run()) != await ask(bench.run())


async def test_an_answer_of_another_model_is_not_kept(bench: Bench) -> None:
    """What stood in for the model that was to answer must not answer for it later."""
    cache = ResponseCache(bench.store, answering=lambda _: ("fast", "openai:s"), seconds=60)
    request = ModelRequest(TRIAGE, [HumanMessage("Size?")])
    for model, is_kept in (("openai:l", False), ("openai:s", True)):
        message = AIMessage("large")
        await cache.keep(request, ModelAnswer(message, model, None), message)
        assert (await cache.find(request) is not None) == is_kept


async def test_a_hit_is_recorded_as_a_call(bench: Bench, tmp_path: Path) -> None:
    """So the recording is whole."""
    await ask(bench.run())
    bench.recorder = Recorder(tmp_path / "run.jsonl", model="auto")
    await ask(bench.run())
    assert len(read_recording(tmp_path / "run.jsonl").calls) == 1


async def test_a_changed_catalogue_pays_no_answer_twice(bench: Bench) -> None:
    """A run that goes on after a crash finds its journaled answers, though another model would now answer."""
    world = World()
    for tier, ends in (("fast", True), ("strong", False)):
        model: Any = bench.run(work_tier=tier)._gateway._router
        world.model = model
        if ends:
            with pytest.raises(Died):
                await world.process(work >> work, Dying(world.journal, 1, after=True))
        else:
            await world.process(work >> work)
    assert bench.asked == ["openai:s", "openai:l"]
    assert [e["model"] for e in world.events.of("model_replayed")] == ["openai:s"]
