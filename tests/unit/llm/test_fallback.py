"""What one model cannot answer, the next one does; what no model should, none is asked."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool

from phoenix.errors import (
    InputError,
    ModelError,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    ModelUnknown,
)
from phoenix.llm.breaker import Breaker
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.failures import CallFailed, refusal
from phoenix.llm.models import ProjectModels
from phoenix.llm.patience import Patience
from phoenix.llm.traffic import Traffic
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.unit.llm.candidates import Chain, Failing
from tests.unit.llm.rig import SWIFT, Heard

CODER = Caller("coding", "T1")


def broken() -> CallFailed:
    """Return a failure of the provider."""
    return CallFailed(ModelUnavailable("x: 503"), again=True, sick=True)


def over(
    chain: Chain, events: Heard, *, patience: Patience = SWIFT, traffic: Traffic | None = None
) -> ProjectModels:
    """Return models over a chain."""
    return ProjectModels(chain, usage=MemoryUsage(), events=events, patience=patience, traffic=traffic)


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return where


async def test_a_model_that_keeps_failing_is_left_for_the_next(events: Heard) -> None:
    """It gets two attempts; the event names both models and the reason."""
    first, second = Failing("a:1", broken(), broken(), broken()), Failing("b:2")
    answer = await over(Chain(first, second), events).chat(CODER).ainvoke("hi")
    assert answer.text == "from b:2"
    assert len(first.requests) == 2
    (told,) = events.of("model_fell_back")
    assert (told["model"], told["to"], told["reason"]) == ("a:1", "b:2", ModelUnavailable().code)
    assert events.of("model_called")[0]["model"] == "b:2"


@pytest.mark.parametrize(
    "failure",
    [
        CallFailed(ModelUnknown("gone"), elsewhere=True),
        CallFailed(ModelRateLimited("no quota"), elsewhere=True),
        CallFailed(ModelRateLimited("slow down"), again=True, after=30),
    ],
    ids=["model gone", "no quota", "a long wait"],
)
async def test_what_waiting_will_not_mend_falls_back_at_once(failure: CallFailed, events: Heard) -> None:
    """One attempt says it."""
    first, second = Failing("a:1", failure), Failing("b:2")
    models = over(Chain(first, second), events, patience=Patience())
    assert (await models.chat(CODER).ainvoke("hi")).text == "from b:2"
    assert len(first.requests) == 1
    assert not events.of("model_retried")


@pytest.mark.parametrize(
    "error",
    [ModelRefusedKey("bad key"), refusal("a:1", "no"), ModelRejected("400")],
    ids=["key", "refusal", "rejected"],
)
async def test_what_no_other_model_should_answer_stops_at_once(
    error: ModelError | InputError, events: Heard
) -> None:
    """A wrong key is to be mended, and a refusal is not to be shopped around."""
    first, second = Failing("a:1", CallFailed(error)), Failing("b:2")
    with pytest.raises(type(error)):
        await over(Chain(first, second), events).chat(CODER).ainvoke("hi")
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_the_last_model_gets_all_attempts(events: Heard) -> None:
    """With nobody behind it, patience is the answer; its failure is the one that is shown."""
    last = Failing("b:2", *(CallFailed(ModelRateLimited(f"{n}"), again=True) for n in range(9)))
    first = Failing("a:1", *(broken() for _ in range(9)))
    with pytest.raises(ModelRateLimited):
        await over(Chain(first, last), events).chat(CODER).ainvoke("hi")
    assert (len(first.requests), len(last.requests)) == (2, 6)


async def test_each_model_gets_tools_in_its_own_form(events: Heard) -> None:
    """Options of one provider mean nothing to another."""
    first, second = Failing("a:1", CallFailed(ModelUnknown(), elsewhere=True)), Failing("b:2")
    await over(Chain(first, second), events).chat(CODER).bind_tools([look], tool_choice="look").ainvoke("hi")
    assert first.requests[0].options == {"tools_of": "a:1", "tool_choice": "look"}
    assert second.requests[0].options == {"tools_of": "b:2", "tool_choice": "look"}


async def test_a_broken_model_is_not_asked_while_another_can_answer(events: Heard) -> None:
    """After five failures its circuit is open: the calls of all projects go past it."""
    traffic = Traffic(Breaker())
    first, second = Failing("a:1", *(broken() for _ in range(20))), Failing("b:2")
    for _ in range(6):
        assert (await over(Chain(first, second), events, traffic=traffic).chat(CODER).ainvoke("hi")).text
    assert len(first.requests) == 5
    assert traffic.breaker.states() == {"a:1": "open"}
    (changed,) = events.of("circuit_changed")
    assert changed == {"model": "a:1", "state": "open"}


async def test_a_broken_model_without_another_is_refused_with_the_time(events: Heard) -> None:
    """Where the wait is longer than the call may take, the error says when to come back."""
    traffic = Traffic(Breaker())
    chain = Chain(Failing("a:1", *(broken() for _ in range(20))))
    with pytest.raises(ModelUnavailable, match="503"):
        await over(chain, events, traffic=traffic).chat(CODER).ainvoke("hi")
    with pytest.raises(ModelUnavailable, match=r"left alone for now.*tried again in (29|30) s"):
        await over(chain, events, traffic=traffic).chat(CODER).ainvoke("hi")


class Hanging(Failing):
    """Never answers."""

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.requests.append(request)
        raise TimeoutError


async def test_deadlines_of_one_answer_and_of_the_call_differ(events: Heard) -> None:
    """An answer that takes too long is asked for elsewhere."""
    first, second = Hanging("a:1"), Failing("b:2")
    patience = Patience(deadline_seconds=5, answer_seconds=0.05, first_wait_seconds=0.01)
    answer = await over(Chain(first, second), events, patience=patience).chat(CODER).ainvoke("hi")
    assert answer.text == "from b:2"
    assert [e["reason"] for e in events.of("model_retried")] == [ModelTimeout().code]


def conversation(results: int) -> list[BaseMessage]:
    """Return an agent's conversation with so many long results."""
    messages: list[BaseMessage] = [HumanMessage("Mend it.")]
    for number in range(results):
        call = {"name": "look", "args": {"where": str(number)}, "id": f"c{number}"}
        messages += [
            AIMessage("", tool_calls=[call]),
            ToolMessage(f"{number}" * 5000, tool_call_id=f"c{number}"),
        ]
    return messages


def too_long() -> CallFailed:
    """Return the failure of a conversation that does not fit."""
    return CallFailed(ModelError("too long"), elsewhere=True, too_long=True)


async def test_a_conversation_that_is_too_long_is_compacted_once(events: Heard) -> None:
    """The oldest results are cut, which is told; what the model has not seen yet is whole."""
    model = Failing("a:1", too_long())
    messages = conversation(5)
    answer = await over(Chain(model), events).chat(CODER).ainvoke(messages)
    assert answer.text == "from a:1"
    sent = [m.text for m in model.requests[1].messages]
    assert [len(t) for t in sent if t][-2:] == [5000, 5000]
    assert "4800 characters of this earlier result are left out" in sent[2]
    (told,) = events.of("conversation_compacted")
    assert (told["results"], told["characters"]) == (3, 14_400)
    assert messages[2].text == "0" * 5000


async def test_what_does_not_fit_even_then_goes_to_a_larger_model_or_fails(events: Heard) -> None:
    """It is cut once, and the error says what to do."""
    first, second = Failing("a:1", too_long(), too_long()), Failing("b:2")
    assert (await over(Chain(first, second), events).chat(CODER).ainvoke(conversation(5))).text == "from b:2"
    assert len(first.requests) == 2
    alone = Failing("a:1", too_long(), too_long(), too_long())
    with pytest.raises(ModelError, match="too long"):
        await over(Chain(alone), events).chat(CODER).ainvoke(conversation(5))
    assert len(alone.requests) == 2


async def test_nothing_to_cut_fails_at_once(events: Heard) -> None:
    """People's words are not shortened behind their backs."""
    model = Failing("a:1", too_long())
    with pytest.raises(ModelError, match="too long"):
        await over(Chain(model), events).chat(CODER).ainvoke("x" * 100_000)
    assert len(model.requests) == 1
