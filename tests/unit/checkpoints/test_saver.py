"""The checkpointer keeps domain models, and takes whatever was cleaned."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.types import Command, interrupt
from psycopg.types.json import Jsonb

from phoenix.checkpoints.saver import open_saver
from phoenix.domain.approval import HumanRequest
from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.domain.frozen import Frozen, digest_of
from phoenix.domain.project import Request, Sized
from phoenix.errors import CheckpointRefused, DatabaseUnavailable

dirty_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\ud800\udfff"), max_size=20)
dirty_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | dirty_text | st.just(2**64) | st.just(10**3000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(dirty_text, inner, max_size=4),
    max_leaves=15,
)


@st.composite
def buried(draw: st.DrawFn) -> Any:
    """Draw a value inside up to 3,000 lists or objects."""
    value = draw(dirty_json)
    wrap = draw(st.sampled_from([lambda v: [v], lambda v: {"in": v}]))
    for _ in range(draw(st.sampled_from([0, 1, 99, 100, 101, 254, 2000, 3000]))):
        value = wrap(value)
    return value


class State(TypedDict, total=False):
    value: Any
    text: str
    sized: Sized
    messages: Annotated[list[AnyMessage], add_messages]


def config(thread: str = "") -> Any:
    return {"configurable": {"thread_id": thread or uuid4().hex}}


async def test_no_database_is_an_error_with_a_hint() -> None:
    """An address where nobody listens gives one clear error."""
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL"):
        async with open_saver("postgresql://nobody@127.0.0.1:9/none"):
            pass


async def test_models_survive_a_pause_between_processes(migrated_database_url: str) -> None:
    """A graph that waits for a person goes on in a second saver with models that are equal."""

    def size(state: State) -> State:
        return {"sized": Sized(request=Request(text=state["text"]).digest(), size="small")}

    def ask(state: State) -> State:
        return {"text": interrupt({"sized": state["sized"].model_dump()})}

    builder = StateGraph(State)
    builder.add_node("size", size)
    builder.add_node("ask", ask)
    builder.add_edge(START, "size")
    builder.add_edge("size", "ask")
    builder.add_edge("ask", END)
    where = config()
    async with open_saver(migrated_database_url) as saver:
        paused = await builder.compile(checkpointer=saver).ainvoke({"text": "Build"}, where)
        (question,) = paused["__interrupt__"]
    async with open_saver(migrated_database_url) as saver:
        done = await builder.compile(checkpointer=saver).ainvoke(Command(resume={question.id: "yes"}), where)
    assert done["text"] == "yes"
    assert done["sized"] == Sized(request=Request(text="Build").digest(), size="small")


async def test_a_strange_type_in_the_state_stops_the_run(migrated_database_url: str) -> None:
    """A node's unregistered model is refused when it is written, and the run says so."""

    class Stranger(Frozen):
        pass

    builder = StateGraph(State)
    builder.add_node("make", lambda state: {"value": [Stranger()]})
    builder.add_edge(START, "make")
    async with open_saver(migrated_database_url) as saver:
        with pytest.raises(CheckpointRefused, match="Stranger"):
            await builder.compile(checkpointer=saver).ainvoke({}, config(), durability="sync")


@pytest.mark.parametrize(
    "dirty",
    ["a\x00b", "\ud800", {"n": math.inf, "big": 2**70}, {"a\x00": 1}],
    ids=["nul", "surrogate", "numbers", "key"],
)
async def test_what_is_not_cleaned_does_not_fit(migrated_database_url: str, dirty: Any) -> None:
    """Each kind of dirt fails somewhere when it is stored as it is: cleaning is not for show."""
    with pytest.raises((psycopg.Error, CheckpointRefused, UnicodeError)):
        await store_everywhere(migrated_database_url, dirty)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(value=buried())
async def test_what_is_cleaned_always_fits(migrated_database_url: str, value: Any) -> None:
    """Whatever a model or tool answers can be checkpointed, stored as JSONB and TEXT, and read back."""
    clean = clean_json(value)
    assert await store_everywhere(migrated_database_url, clean) == clean


async def store_everywhere(migrated_database_url: str, value: Any) -> Any:
    """Store a value in each place that takes answers of models and tools; return the checkpoint's."""
    request = HumanRequest(kind="ask", name="n", value={"value": value}, value_digest=digest_of(value))
    call = {"name": "t", "args": {"value": value}, "id": "1"}
    text = value if isinstance(value, str) else "text"
    messages = [AIMessage(text, id="1", tool_calls=[call]), ToolMessage(text, tool_call_id="1", id="2")]
    builder = StateGraph(State)
    builder.add_node("answer", lambda state: {"value": value, "text": text, "messages": messages})
    builder.add_edge(START, "answer")
    where = config()
    async with open_saver(migrated_database_url) as saver:
        graph = builder.compile(checkpointer=saver)
        await graph.ainvoke({}, where, durability="sync")
        state = (await graph.aget_state(where)).values
        kept = saver.serde.loads_typed(saver.serde.dumps_typed(request))
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as connection:
        row = Jsonb(request.model_dump(mode="json"))
        await connection.execute("SELECT %s::jsonb, %s::text", [row, text])
    assert kept == request
    assert state["messages"][0].tool_calls[0]["args"] == {"value": value}
    return state["value"]


@given(dirty_text)
def test_clean_text_is_kept(text: str) -> None:
    """Cleaning keeps the length and every fit character, and is idempotent."""
    clean = clean_text(text)
    assert len(clean) == len(text)
    assert all(new in (old, "\ufffd") for new, old in zip(clean, text, strict=True))
    assert clean_text(clean) == clean
