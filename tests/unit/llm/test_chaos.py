"""The faulty provider: every fault by rate, the same by seed, and none that the gateway does not survive."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelUnknown
from phoenix.llm.answers import clean_answer
from phoenix.llm.calls import ModelRequest
from phoenix.llm.chaos import FAULTS, ChaosFault, ChaosModel, ChaosOptions, read_chaos
from phoenix.llm.failures import CallFailed
from phoenix.llm.models import open_backend
from phoenix.llm.patience import Patience
from phoenix.llm.scripted import Say, ScriptedModel
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import Heard, Open

CODER = Caller("coding", "T1")
QUICK = Patience(
    answer_seconds=0.1, idle_seconds=0.05, first_wait_seconds=0.001, longest_wait_seconds=0.01, attempts=20
)
ANSWERED: tuple[ChaosFault, ...] = ("malformed_json", "wrong_schema", "unstorable", "wrong_tool")
"""Faults of an answer, not of its way."""


class Note(Frozen):
    """A note."""

    text: str


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return where


def chaos(rate: float, *faults: ChaosFault, seed: int = 1, calls: bool = False) -> ChaosModel:
    """Return a faulty model in front of one that always says the same."""
    say = Say(calls=[("look", {"where": "home"})]) if calls else Note(text="hello")
    inner = ScriptedModel(lambda _: say)
    return ChaosModel(inner, ChaosOptions(rate, seed), idle_seconds=0.05, faults=faults or FAULTS)


def asked(number: int) -> ModelRequest:
    """Return one of many requests."""
    return ModelRequest(CODER, [HumanMessage(f"question {number}")])


async def outcome(model: ChaosModel, number: int) -> str:
    """Return what came of a request, as text."""
    try:
        answer = await model.answer(asked(number))
    except CallFailed as failure:
        return f"{type(failure.error).__name__} {failure.after}"
    return f"{answer.message.content!r:.60}"


@pytest.mark.parametrize(
    ("name", "options", "inner"),
    [
        ("chaos:0.3:openai:gpt-5.2", ChaosOptions(0.3), "openai:gpt-5.2"),
        ("chaos:1,seed=7:recorded:/a/b,c.jsonl", ChaosOptions(1.0, 7), "recorded:/a/b,c.jsonl"),
        ("chaos:0.1:chaos:0.2,seed=2:a:b", ChaosOptions(0.1), "chaos:0.2,seed=2:a:b"),
    ],
)
def test_its_name_says_all(name: str, options: ChaosOptions, inner: str) -> None:
    """Rate, seed, and what is behind it."""
    assert read_chaos(name) == (options, inner)


@pytest.mark.parametrize(
    "name",
    [
        "chaos:",
        "chaos:0.3",
        "chaos:x:a:b",
        "chaos:1.5:a:b",
        "chaos:nan:a:b",
        "chaos:-1:a:b",
        "chaos:1,seed=x:a:b",
    ],
)
def test_a_name_of_another_form_is_refused(name: str, tmp_path: Path) -> None:
    """The error shows how it is written."""
    with pytest.raises(ModelUnknown, match="chaos:RATE"):
        open_backend(Settings(home=tmp_path), name)


async def test_the_rate_is_kept_and_every_fault_comes() -> None:
    """Of 600 calls about three in ten fail, in all twelve ways."""
    model = chaos(0.3)
    model._idle_seconds = 0.001
    tasks = [asyncio.wait_for(outcome(model, number), 0.5) for number in range(600)]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert 140 < model.injected.total() < 220
    assert set(model.injected) == set(FAULTS)


async def test_the_same_seed_gives_the_same_faults() -> None:
    """Whatever the order of the calls; another seed gives others."""
    refused: tuple[ChaosFault, ...] = ("rate_limited", "overloaded", "no_choices", *ANSWERED)
    forward = {n: await outcome(model, n) for model in [chaos(0.5, *refused)] for n in range(40)}
    backward = {n: await outcome(model, n) for model in [chaos(0.5, *refused)] for n in reversed(range(40))}
    other = {n: await outcome(model, n) for model in [chaos(0.5, *refused, seed=2)] for n in range(40)}
    assert forward == backward
    assert forward != other


async def test_a_call_that_failed_may_succeed_when_it_is_repeated() -> None:
    """The chance is anew for each time that the same is asked."""
    model = chaos(0.5, "overloaded")
    assert len({await outcome(model, 1) for _ in range(20)}) == 2


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - set(ANSWERED)))
async def test_every_fault_of_the_way_is_retried(fault: ChaosFault, open_over: Open, events: Heard) -> None:
    """The answer in the end is the whole one."""
    models = open_over(chaos(0.5, fault), patience=QUICK)
    for number in range(4):
        assert (await models.chat(CODER).ainvoke(f"question {number}")).text == '{"text":"hello"}'
    assert events.of("model_retried")


@pytest.mark.parametrize("fault", ANSWERED)
@pytest.mark.parametrize("calls", [False, True], ids=["text", "calls"])
async def test_every_fault_of_an_answer_is_cleaned_or_tried_again(
    fault: ChaosFault, calls: bool, open_over: Open
) -> None:
    """Whatever comes through can be written down, and is whole."""
    models = open_over(chaos(0.5, fault, calls=calls), patience=QUICK)
    kinds: Counter[str] = Counter()
    for number in range(12):
        answer = await models.chat(CODER).bind_tools([look]).ainvoke(f"question {number}")
        answer.model_dump_json().encode()
        assert not answer.invalid_tool_calls
        kinds[str(answer.content) + str(answer.tool_calls[0]["args"] if answer.tool_calls else "")] += 1
    assert kinds


async def test_what_cannot_be_stored_is_cleaned() -> None:
    """NUL, half a surrogate, NaN, huge numbers and deep lists: each comes, and none passes."""
    model, seen = chaos(1.0, "unstorable", calls=True), set()
    for number in range(40):
        message = (await model.answer(asked(number))).message
        ((name, value),) = message.tool_calls[0]["args"].items()
        seen.add((name, type(value), len(value) if isinstance(value, str) else 0))
        cleaned, _ = clean_answer(message)
        cleaned.model_dump_json().encode()
        assert isinstance(cleaned, AIMessage)
    assert len(seen) == 5
