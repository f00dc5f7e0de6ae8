"""Routing: who answers, why, and that a changed catalogue pays no answer twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelUnknown
from phoenix.llm.access import Aliases, AliasModel
from phoenix.llm.calls import Backend, ModelRequest
from phoenix.llm.catalogue import Catalogue, parse_catalogue
from phoenix.llm.limits import Limits
from phoenix.llm.routing import CatalogueRouter, decide, read_choice
from phoenix.llm.scripted import ScriptedModel
from phoenix.llm.traffic import endpoint_of
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.rig import Heard, Open
from tests.unit.llm.server import Reply, Server, error, serving

CATALOGUE = parse_catalogue(
    """
models:
  fast: {model: 'openai:s', fallbacks: [spare]}
  standard: {model: 'openai:m', fallbacks: [spare]}
  strong: {model: 'anthropic:l'}
  spare: {model: 'ollama:x', context_tokens: 1000, capabilities: [schema]}
agents:
  seal: {tier: fast, raised_by: [attempt]}
"""
)
CODE = Caller("code", "T1/r1")
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {}}}]


def chosen(
    caller: Caller, model: str = "auto", *, text: str = "Go", tools: bool = False
) -> tuple[list[str], str]:
    """Return who may answer a caller of a project, and why."""
    choice = read_choice(CATALOGUE, model)
    assert choice is not None
    request = ModelRequest(caller, [HumanMessage(text)], tools=TOOLS if tools else ())
    found = decide(CATALOGUE, choice, request)
    return list(found.aliases), found.reason


@pytest.mark.parametrize(
    ("caller", "alias", "why"),
    [
        (Caller("triage"), "fast", "the tier of triage"),
        (CODE, "standard", "the tier of code"),
        (replace(CODE, size="S"), "standard", "the tier of code"),
        (replace(CODE, size="L"), "strong", "the tier of code, the task is large"),
        (replace(CODE, attempt=2), "strong", "the tier of code, attempt 2"),
        (replace(CODE, size="L", attempt=9), "strong", "the tier of code, the task is large, attempt 9"),
        (Caller("seal", size="L"), "fast", "the tier of seal"),
        (Caller("seal", attempt=2), "standard", "the tier of seal, attempt 2"),
    ],
)
def test_agent_size_and_attempt_decide(caller: Caller, alias: str, why: str) -> None:
    """A hard task takes the larger model, a failed attempt climbs, and the top is the end."""
    aliases, reason = chosen(caller)
    assert (aliases[0], reason) == (alias, why)


def test_the_chain_stands_behind() -> None:
    """What an alias names as its fallbacks may answer next."""
    assert chosen(CODE)[0] == ["standard", "spare"]


def test_a_pin_answers_everything() -> None:
    """Neither size nor attempt moves it."""
    assert chosen(replace(CODE, size="L", attempt=3), "fast") == (
        ["fast", "spare"],
        "the project is pinned to it",
    )


@pytest.mark.parametrize(
    ("model", "aliases"),
    [
        ("auto,-standard", ["spare"]),
        ("auto,-standard,-spare", ["strong"]),
        ("auto,-openai,-anthropic", ["spare"]),
        ("auto,-standard,-spare,-anthropic", ["fast"]),
    ],
)
def test_what_is_forbidden_never_answers(model: str, aliases: list[str]) -> None:
    """The chain behind it takes its place, else the next tier up, else down."""
    found, reason = chosen(CODE, model)
    assert found == aliases
    assert "standard is forbidden" in reason


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("strnog", "no model alias 'strnog'"),
        ("auto,-nobody", "'-nobody' forbids no model"),
        ("auto,strong", "'strong' forbids no model"),
        ("auto,-openai,-anthropic,-ollama", "leaves no model"),
        ("strong,-anthropic", "leaves no model"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(model: str, said: str) -> None:
    """A misspelt alias must not silently forbid nothing."""
    with pytest.raises(ModelUnknown, match=said):
        read_choice(CATALOGUE, model)


def test_a_providers_model_is_no_choice() -> None:
    """It is used as it is, catalogue or not."""
    assert read_choice(CATALOGUE, "openai:gpt-5.2") is None


def test_a_model_without_tools_or_room_is_passed_over() -> None:
    """Tools to work with, and a conversation that is too long."""
    assert chosen(CODE, "auto,-standard", tools=True)[0] == ["strong"]
    assert chosen(CODE, text="x" * 8000)[0] == ["standard"]
    with pytest.raises(ModelUnknown, match="spare has room for 1000 tokens and this has about 2000"):
        chosen(CODE, "spare", text="x" * 8000)


@pytest.mark.parametrize(
    ("model", "room"),
    [("auto", None), ("spare", 1000), ("auto,-standard", 1000), ("auto,-standard,-spare", None)],
)
def test_the_room_is_that_of_the_model_meant(model: str, room: int | None) -> None:
    """An agent can keep its conversation within the window of who is to answer it."""
    assert routed(Heard(), {}, model).room(CODE) == room


def routed(
    events: Heard, backends: dict[str, Backend], model: str = "auto", catalogue: Catalogue = CATALOGUE
) -> CatalogueRouter:
    """Return a backend that routes over these models."""
    choice = read_choice(catalogue, model)
    assert choice is not None
    opened = Aliases(catalogue, Settings(home=Path("/")), backends).open
    return CatalogueRouter(catalogue, choice, open_alias=opened, events=events)


async def test_a_decision_is_told_once_for_each_change(events: Heard, open_over: Open) -> None:
    """The plain choice is silent; what differs is told, once, and so is the way back."""
    backends: dict[str, Backend] = {
        m: ScriptedModel(lambda _: "ok", name=m) for m in ("openai:m", "anthropic:l")
    }
    models = open_over(routed(events, backends))
    for caller in (CODE, replace(CODE, attempt=2), replace(CODE, attempt=2), CODE, Caller("code", "T2/r1")):
        await models.chat(caller).ainvoke("Go")
    told = [(e["task"], e["alias"], e["model"], e["reason"]) for e in events.of("model_routed")]
    assert told == [
        ("T1/r1", "strong", "anthropic:l", "the tier of code, attempt 2"),
        ("T1/r1", "standard", "openai:m", "the tier of code"),
    ]
    assert [e["model"] for e in events.of("model_called")] == [
        "openai:m",
        "anthropic:l",
        "anthropic:l",
        "openai:m",
        "openai:m",
    ]


class Fruit(Frozen):
    """A fruit."""

    name: str


@pytest.mark.parametrize(
    ("capabilities", "sent"),
    [("[tools, schema]", "response_format"), ("[tools]", "tools"), ("[vision]", "messages")],
)
async def test_a_typed_answer_is_asked_for_by_the_models_best_means(
    capabilities: str, sent: str, server: Server, settings: Settings, events: Heard, open_over: Open
) -> None:
    """Schema mode, else a tool call, else words, as the catalogue says, at the alias's own URL."""
    entry = f"{{model: 'openai:test', base_url: '{server.url}/v1', capabilities: {capabilities}}}"
    catalogue = parse_catalogue(f"models: {{mine: {entry}}}")
    server.replies = [Reply('{"name": "pear"}')]
    if sent == "tools":
        server.replies = [Reply(calls=[("Fruit", '{"name": "pear"}')])]
    choice = read_choice(catalogue, "auto")
    assert choice is not None
    opened = Aliases(catalogue, settings, {}).open
    models = open_over(CatalogueRouter(catalogue, choice, open_alias=opened, events=events))
    assert await models.structured(CODE, [HumanMessage("A fruit?")], Fruit) == Fruit(name="pear")
    asked = server.requests[0]
    assert sent in asked
    assert ("JSON Schema" in json.dumps(asked["messages"])) == (sent == "messages")
    assert not ({"response_format", "tools"} - {sent}) & set(asked)


async def test_two_aliases_have_two_addresses_keys_and_prices(
    server: Server, settings: Settings, events: Heard, open_over: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raised call goes to another server with another key, and costs what its alias says."""
    monkeypatch.setenv("OTHER_KEY", "other-key")
    async with serving() as other:
        catalogue = parse_catalogue(
            f"""
models:
  small:
    model: openai:s
    base_url: {server.url}/v1
    key_env: OPENAI_API_KEY
    price: {{input: 1, output: 5}}
  large:
    model: openai:l
    base_url: {other.url}/v1
    key_env: OTHER_KEY
    limits: {{output_tokens: 77}}
    price: {{input: 10, output: 50}}
agents: {{code: {{tier: small}}}}
"""
        )
        server.replies = other.replies = [Reply("ok", usage=(1000, 100))]
        choice = read_choice(catalogue, "auto")
        assert choice is not None
        opened = Aliases(catalogue, settings, {}).open
        models = open_over(CatalogueRouter(catalogue, choice, open_alias=opened, events=events))

        @tool
        def bash(command: str) -> str:
            """Run a command."""
            return ""

        for size in ("S", "L"):
            await models.chat(replace(CODE, size=size)).bind_tools([bash], tool_choice="bash").ainvoke("Go")
        assert other.headers[0]["authorization"] == "Bearer other-key"
        assert server.headers[0]["authorization"] != other.headers[0]["authorization"]
        assert [r["model"] for r in (*server.requests, *other.requests)] == ["s", "l"]
        assert other.requests[0]["tools"][0]["function"]["name"] == "bash"
        assert other.requests[0]["tool_choice"]["function"]["name"] == "bash"
        assert 77 in (other.requests[0].get("max_tokens"), other.requests[0].get("max_completion_tokens"))
        assert [str(e["cost_usd"]) for e in events.of("model_called")] == ["0.0015", "0.015"]


async def test_an_alias_whose_server_fails_falls_back_to_the_next_one(
    server: Server, settings: Settings, events: Heard, open_over: Open
) -> None:
    """Over two servers that serve the same model: its circuits and caps are told apart by address."""
    async with serving() as other:
        catalogue = parse_catalogue(
            f"""
models:
  near:
    model: openai:m
    base_url: {server.url}/v1
    fallbacks: [far]
    limits: {{requests_per_minute: 90, tokens_per_minute: 1000000, concurrency: 3}}
  far: {{model: 'openai:m', base_url: '{other.url}/v1', price: {{input: 1, output: 5}}}}
tiers: [near]
"""
        )
        server.replies = [error(503)]
        other.replies = [Reply("from afar", usage=(1000, 100))]
        choice = read_choice(catalogue, "auto")
        assert choice is not None
        opened = Aliases(catalogue, settings, {}).open
        router = CatalogueRouter(catalogue, choice, open_alias=opened, events=events)
        near, far = await router.route(ModelRequest(CODE, [HumanMessage("Go")]))
        assert near.limits == Limits(90, 1_000_000, 3)
        assert far.limits == Limits()
        assert endpoint_of(near.backend) != endpoint_of(far.backend)
        assert (await open_over(router).chat(CODE).ainvoke("Go")).text == "from afar"
    (told,) = events.of("model_fell_back")
    assert (told["model"], told["to"], told["reason"]) == ("near", "far", "model_unavailable")
    assert [str(e["cost_usd"]) for e in events.of("model_called")] == ["0.0015"]


def test_what_is_asked_does_not_name_who_answers() -> None:
    """The options of a request, which are in its digest, are the same for every alias."""
    inner = ScriptedModel({})
    first, second = (AliasModel(inner, CATALOGUE.models[alias]) for alias in ("fast", "strong"))
    assert first.tool_options(TOOLS, tool_choice="x") == second.tool_options(TOOLS, tool_choice="x")
