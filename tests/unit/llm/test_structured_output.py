"""Structured output against a real server: tiers, repair, and honest failure."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import pytest
from langchain_core.messages import HumanMessage
from pydantic import Field

from phoenix.domain.frozen import Frozen, Text
from phoenix.errors import ModelRejected, OutputUnusable
from phoenix.llm.providers import ProviderModel
from phoenix.ports import Caller
from tests.unit.llm.rig import Heard, Open
from tests.unit.llm.server import Reply, Server, error

AUTHOR = Caller("requirement")
ASK = [HumanMessage("Describe a pear.")]
REFUSED = error(400, "Invalid schema for response_format 'Fruit'")


class Fruit(Frozen):
    """A fruit."""

    name: Text = Field(max_length=20)
    grams: int = Field(ge=1)
    colour: Literal["green", "red"] = "green"
    seeds: list[str] = []


PEAR = '{"name": "pear", "grams": 150, "colour": "green", "seeds": []}'


async def test_the_schema_mode_is_used_first(
    server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """The request carries a strict JSON Schema, and the event says which tier answered."""
    server.replies = [Reply(PEAR)]
    fruit = await open_over(provider).structured(AUTHOR, ASK, Fruit)
    assert fruit == Fruit(name="pear", grams=150)
    form = server.requests[0]["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["required"] == ["name", "grams", "colour", "seeds"]
    told = events.of("structured_answered")[0]
    assert (told["tier"], told["repair"]) == ("schema", "none")


async def test_a_refused_schema_mode_falls_back_to_a_tool_call(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """After a 400 the schema is sent as a tool, now and in the next calls."""
    server.replies = [REFUSED, Reply(calls=[("Fruit", PEAR)])]
    models = open_over(provider)
    assert (await models.structured(AUTHOR, ASK, Fruit)).name == "pear"
    assert server.requests[1]["tools"][0]["function"]["name"] == "Fruit"
    await models.structured(AUTHOR, ASK, Fruit)
    assert len(server.requests) == 3


async def test_refused_tools_fall_back_to_text(
    server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """A server with neither gets the schema in the prompt."""
    server.replies = [REFUSED, error(400, "tools are not supported"), Reply(f"Here:\n```json\n{PEAR}\n```")]
    assert (await open_over(provider).structured(AUTHOR, ASK, Fruit)).name == "pear"
    assert "JSON Schema" in server.requests[2]["messages"][-1]["content"]
    assert events.of("structured_answered")[0]["tier"] == "text"


async def test_a_request_refused_in_every_tier_is_an_error(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """What is wrong with the request itself ends after three calls, and the next call starts afresh."""
    server.replies = [error(400, "bad parameter")]
    models = open_over(provider)
    with pytest.raises(ModelRejected, match="bad parameter"):
        await models.structured(AUTHOR, ASK, Fruit)
    assert len(server.requests) == 3
    server.replies = [Reply(PEAR)]
    await models.structured(AUTHOR, ASK, Fruit)
    assert "response_format" in server.requests[3]


async def test_callers_side_by_side_step_down_one_tier_together(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """Two refusals of the schema mode at once do not skip the tool call."""
    server.choose = lambda asked: REFUSED if "response_format" in asked else Reply(calls=[("Fruit", PEAR)])
    models = open_over(provider)
    await asyncio.gather(*(models.structured(AUTHOR, ASK, Fruit) for _ in range(3)))
    assert sum("tools" in asked for asked in server.requests) == 3


async def test_one_repair_call_sees_schema_output_and_error(
    server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """An answer that breaks a rule is sent back once, with what is wrong."""
    bad = PEAR.replace("150", "0")
    server.replies = [Reply(bad), Reply(PEAR)]
    assert (await open_over(provider).structured(AUTHOR, ASK, Fruit)).grams == 150
    *_, said, asked = server.requests[1]["messages"]
    assert said["content"] == bad
    assert "grams: Input should be greater than or equal to 1" in asked["content"]
    assert '"additionalProperties": false' in asked["content"]
    assert events.of("structured_answered")[0]["repair"] == "call"


async def test_a_second_misfit_is_a_clear_failure(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """After one repair call the error names agent, schema and problem."""
    server.replies = [Reply("I would rather talk about apples.")]
    with pytest.raises(OutputUnusable, match=r"requirement agent's Fruit .* not one JSON object"):
        await open_over(provider).structured(AUTHOR, ASK, Fruit)
    assert len(server.requests) == 2


async def test_mending_costs_no_call(
    server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """An envelope, a trailing comma and a null for a default are mended, and said so."""
    broken = json.dumps({"Fruit": {"name": "pear", "grams": 150, "seeds": None}})[:-1] + ",}"
    server.replies = [Reply(broken)]
    assert await open_over(provider).structured(AUTHOR, ASK, Fruit) == Fruit(name="pear", grams=150)
    assert len(server.requests) == 1
    assert events.of("structured_answered")[0]["repair"] == "mended"
