"""A call whose answer arrived is not made again, wherever its process ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy

from phoenix.domain.budget import Budget, Hold
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall
from phoenix.errors import BudgetSpent, ModelUnavailable
from phoenix.flow import Flow, map_over, parallel, step
from phoenix.llm.budget import MemoryBudgets
from phoenix.llm.calls import ModelRequest
from phoenix.llm.journal import MemoryJournal, request_digest
from phoenix.llm.models import ProjectModels
from phoenix.llm.providers import ProviderModel
from phoenix.llm.recording import Recorder, read_recording
from phoenix.llm.scripted import Fault, Say, ScriptedModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller, Ports
from tests.unit.llm.rig import KEY, SWIFT, Heard
from tests.unit.llm.server import Reply, Server


class Died(RuntimeError):
    """The process ends here."""


class Refused(ConnectionError):
    """The step does not like an answer."""


class Dying(MemoryJournal):
    """The journal of a process that ends around one of its writes; `inner` outlives it."""

    def __init__(self, inner: MemoryJournal, at: int, *, after: bool) -> None:
        self.inner, self.at, self.after, self.count = inner, at, after, 0

    async def find(self, key: CallKey) -> KeptAnswer | None:
        return await self.inner.find(key)

    async def keep(
        self, key: CallKey | None, answer: KeptAnswer, call: ModelCall, *, hold: Hold | None = None
    ) -> None:
        self.count += 1
        if self.count > self.at or (self.count == self.at and not self.after):
            raise Died
        await self.inner.keep(key, answer, call, hold=hold)
        if self.count == self.at:
            raise Died


@tool
async def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing at {where}"


async def ask(runtime: Runtime[Ports], agent: str, text: str = "hi") -> str:
    """Ask one question."""
    answer = await runtime.context.models.chat(Caller(agent)).ainvoke([HumanMessage(text)])
    return str(answer.text)


@step
async def say(value: int, runtime: Runtime[Ports]) -> int:
    """Ask once."""
    await ask(runtime, "say")
    return value


@step
async def twice(value: int, runtime: Runtime[Ports]) -> int:
    """Ask the same twice at once."""
    await asyncio.gather(ask(runtime, "twice"), ask(runtime, "twice"))
    return value


@step(retry=RetryPolicy(initial_interval=0.01, jitter=False, retry_on=Refused), max_attempts=3)
async def picky(value: int, runtime: Runtime[Ports]) -> int:
    """Refuse two answers and take the third."""
    if (await ask(runtime, "picky")) != "third":
        raise Refused
    return value


@step
async def work(value: int, runtime: Runtime[Ports]) -> int:
    """Run an agent of three turns."""
    agent = create_agent(runtime.context.models.chat(Caller("work")), [look], context_schema=Ports)
    await agent.ainvoke({"messages": [("user", "go")]}, context=runtime.context)  # type: ignore[arg-type]
    return value


@step
async def both(values: dict[str, int]) -> int:
    """Join."""
    return sum(values.values())


@step
async def spread(value: int) -> list[int]:
    """Make items."""
    return [1, 2]


@step
async def total(values: list[int]) -> int:
    """Join."""
    return sum(values)


FLOW = (
    say
    >> work
    >> picky
    >> twice
    >> parallel(left=say >> say, right=work)
    >> both
    >> spread
    >> map_over(say >> work)
    >> total
)
CALLS = Counter({"say": 5, "work": 12, "picky": 3, "twice": 2})


def script(kept: dict[CallKey, KeptAnswer]) -> ScriptedModel:
    """Return a model that answers by conversation, and `picky` by how many of its answers were kept."""
    refused = ("first", "second")

    def answer(request: ModelRequest) -> Any:
        if request.caller.agent == "picky":
            count = sum(answer.message["content"] in refused for answer in kept.values())
            return [*refused, "third"][count]
        if request.caller.agent == "work" and request.turn < 2:
            return Say(calls=[("look", {"where": "a"})])
        return "ok"

    return ScriptedModel(answer, cost_usd=Decimal("0.01"))


class World:
    """What outlives processes: a model, a journal, usage, checkpoints."""

    def __init__(self, model: ScriptedModel | None = None, recorder: Recorder | None = None) -> None:
        self.usage = MemoryUsage()
        self.journal = MemoryJournal(self.usage)
        self.model = model or script(self.journal.kept)
        self.saver = InMemorySaver()
        self.events = Heard()
        self.recorder = recorder

    async def process(
        self, flow: Flow[Any, Any], journal: MemoryJournal | None = None, budget: str = ""
    ) -> Any:
        """Run a flow from where it is, as a process does: with counts of its own."""
        budgets = MemoryBudgets(self.usage, Budget(usd=Decimal(budget))) if budget else None
        models = ProjectModels(
            self.model,
            usage=self.usage,
            journal=journal or self.journal,
            events=self.events,
            budgets=budgets,
            recorder=self.recorder,
            patience=SWIFT,
        )
        graph = flow.compile(checkpointer=self.saver, context_schema=Ports)
        config: Any = {"configurable": {"thread_id": "t"}}
        state = await graph.aget_state(config)
        payload: Any = None if state.created_at else {"value": 1}
        ports: Any = SimpleNamespace(models=models)
        return (await graph.ainvoke(payload, config, context=ports, durability="sync"))["value"]

    def asked(self) -> Counter[str]:
        return Counter(request.caller.agent for request in self.model.requests)


async def test_a_calm_run_asks_what_it_should() -> None:
    """The sweeps below count against this."""
    world = World()
    assert await world.process(FLOW) == 3
    assert world.asked() == CALLS
    assert len(world.journal.kept) == CALLS.total()
    assert not world.events.of("model_replayed")


@pytest.mark.parametrize("at", range(1, CALLS.total() + 1))
async def test_an_answer_that_was_kept_is_never_asked_for_again(at: int) -> None:
    """Wherever a process ends after keeping an answer, the next one pays only what had not arrived."""
    world = World()
    with pytest.raises(Died):
        await world.process(FLOW, Dying(world.journal, at, after=True))
    assert len(world.journal.kept) == at
    in_flight = len(world.model.requests) - at
    assert await world.process(FLOW) == 3
    assert len(world.model.requests) == CALLS.total() + in_flight
    assert len(world.usage.calls) == CALLS.total()
    assert world.events.of("model_replayed")


@pytest.mark.parametrize("at", range(1, CALLS.total() + 1))
async def test_an_answer_that_was_not_kept_is_counted_once(at: int) -> None:
    """A process that ends before an answer is kept loses it whole: answer and count."""
    world = World()
    with pytest.raises(Died):
        await world.process(FLOW, Dying(world.journal, at, after=False))
    assert await world.process(FLOW) == 3
    assert len(world.usage.calls) == CALLS.total()
    assert len(world.journal.kept) == CALLS.total()


async def test_killed_at_every_answer_in_a_row_it_pays_each_once() -> None:
    """Each process lives for one answer more."""
    flow = say >> work >> picky >> twice
    world = World()
    for _ in range(20):
        try:
            await world.process(flow, Dying(world.journal, 1, after=True))
            break
        except Died:
            continue
    assert len(world.usage.calls) == 9
    assert world.asked() - Counter({"twice": 1}) <= Counter({"say": 1, "work": 3, "picky": 3, "twice": 2})


async def test_a_paid_answer_that_cannot_be_used_is_not_asked_for_again() -> None:
    """The refusal is replayed as it was, and the answer after it as well."""
    model = ScriptedModel({"say": [Fault("truncated"), "ok", "never"]})
    world = World(model)
    with pytest.raises(Died):
        await world.process(say >> total_of, Dying(world.journal, 9, after=True))
    before = len(model.requests)
    await world.process(say >> total_of_now)
    assert len(model.requests) == before


@step(name="end")
async def total_of(value: int) -> int:
    """Die before the run ends."""
    raise Died


@step(name="end")
async def total_of_now(value: int) -> int:
    """End."""
    return value


async def test_a_replay_needs_no_budget_and_a_new_call_does() -> None:
    """What is paid already cannot overspend."""
    world = World()
    with pytest.raises(Died):
        await world.process(say >> say, Dying(world.journal, 1, after=True))
    with pytest.raises(BudgetSpent):
        await world.process(say >> say, budget="0.01")
    assert len(world.model.requests) == 1
    assert len(world.events.of("model_replayed")) == 1
    assert len(world.events.of("model_called")) == 0


async def test_an_answer_whose_message_cannot_be_read_is_asked_for_again() -> None:
    """It costs a call, and the run goes on."""
    world = World()
    with pytest.raises(Died):
        await world.process(say, Dying(world.journal, 1, after=True))
    for key, kept in world.journal.kept.items():
        world.journal.kept[key] = kept.model_copy(update={"message": {"parts": ["of a newer form"]}})
    assert await world.process(say) == 1
    assert len(world.model.requests) == 2


async def test_the_recording_has_each_call_once(tmp_path: Path) -> None:
    """A process that ended between journal and recording leaves the line to the next one."""
    path = tmp_path / "run.jsonl"
    flow = say >> work >> picky
    for at in range(1, 8):
        path.unlink(missing_ok=True)
        world = World(recorder=Recorder(path, model="x"))
        try:
            await world.process(flow, Dying(world.journal, at, after=True))
        except Died:
            await world.process(flow)
        lines = path.read_text().splitlines()[1:]
        assert len(lines) == 7
        assert len(read_recording(path).calls) == 5


async def test_a_cancelled_call_whose_answer_had_arrived_is_kept() -> None:
    """A stop waits for the write: the next process pays nothing."""
    world = World()
    started, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Dying):
        async def keep(
            self, key: CallKey | None, answer: KeptAnswer, call: ModelCall, *, hold: Hold | None = None
        ) -> None:
            started.set()
            await go_on.wait()
            await self.inner.keep(key, answer, call, hold=hold)

    task = asyncio.ensure_future(world.process(say, Slow(world.journal, 0, after=True)))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0.01)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await world.process(say) == 1
    assert len(world.model.requests) == 1


async def test_a_cut_answer_leaves_nothing(provider: ProviderModel, server: Server) -> None:
    """Half an answer is no answer: nothing is kept of it, and it is counted as one that broke off."""
    server.replies = [Reply("hello", cut=40), Reply("hello", cut=60), Reply("hello")]
    world = World()
    world.model = provider  # type: ignore[assignment]
    assert await world.process(say) == 1
    assert len(server.requests) == 3
    assert [kept.message["content"] for kept in world.journal.kept.values()] == ["hello"]
    assert [call.broken for call in world.usage.calls] == [True, False]


async def test_no_key_or_header_is_kept(provider: ProviderModel, server: Server) -> None:
    """The journal holds what was said, and nothing of how it was sent."""
    server.replies = [Reply("hello")]
    world = World()
    world.model = provider  # type: ignore[assignment]
    await world.process(say)
    assert any(KEY in value for headers in server.headers for value in headers.values())
    text = repr(world.journal.kept)
    assert KEY not in text
    assert "authorization" not in text.lower()


async def test_unfit_answers_are_cleaned_before_they_are_kept() -> None:
    """NUL, lone surrogates and huge integers never reach the store."""
    unfit = Say("a\0b\ud800", calls=[("look", {"n": 2**80, "f": float("nan")})])
    world = World(ScriptedModel(lambda _: unfit))
    await world.process(say)
    kept = next(iter(world.journal.kept.values()))
    assert kept.message["content"] == "a\ufffdb\ufffd"
    assert kept.message["tool_calls"][0]["args"] == {"n": str(2**80), "f": None}


async def test_the_last_failure_is_the_callers() -> None:
    """Replayed or not, an answer that cannot be used ends as the same error."""
    world = World(ScriptedModel(lambda _: ""))
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="empty answer"):
            await world.process(say)
    assert len(world.model.requests) == SWIFT.attempts


def test_a_request_has_one_digest_in_every_process() -> None:
    """Random ids and prices do not count; what is said, the tools, options, model and step do."""

    def digest(step_: str = "s", model: str = "m", text: str = "hi", **fields: Any) -> str:
        messages = [
            HumanMessage(text, id=fields.pop("id", None)),
            AIMessage("x", response_metadata={"a": id(fields)}),
        ]
        return request_digest(ModelRequest(Caller("say"), messages, **fields), model, step_)

    assert digest(id="one") == digest(id="two")
    assert digest(options={"format": Died}) == digest(options={"format": Died})
    others = [
        digest(step_="t"),
        digest(model="n"),
        digest(text="ho"),
        digest(tools=[{"a": 1}]),
        digest(options={"a": 1}),
        digest(stop=["x"]),
    ]
    assert len({digest(), *others}) == len(others) + 1
