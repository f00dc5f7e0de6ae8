"""Only allowed types go into a checkpoint, and only they come out of one."""

from __future__ import annotations

import os
import warnings
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import ormsgpack
import psycopg
import pytest
from langchain_core import messages as chat
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy

from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.domain.frozen import Frozen
from phoenix.domain.project import Question, Questions, Request
from phoenix.domain.run import Usage
from phoenix.errors import CheckpointRefused

STRICT = StrictSerializer()
DIGEST = "sha256:" + "0" * 64


class Recipe(Frozen):
    """A model of a user's flow."""

    title: str
    minutes: int = 10


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Point:
    x: int


def through(value: Any, serializer: StrictSerializer = STRICT) -> Any:
    return serializer.loads_typed(serializer.dumps_typed(value))


def extension(code: int, *content: Any) -> bytes:
    """Build the msgpack row that makes a permissive serializer rebuild something."""
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(content)))


def attack(canary: Path) -> bytes:
    """Build a row that runs a shell command on load."""
    return extension(0, "os", "system", f"touch {canary}")


def permissive() -> JsonPlusSerializer:
    return JsonPlusSerializer(allowed_msgpack_modules=True)


def test_a_planted_row_runs_code_in_the_stock_serializer_and_not_here(tmp_path: Path) -> None:
    """The same bytes that execute a command in LangGraph's default are refused, with nothing executed."""
    canary = tmp_path / "canary"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        permissive().loads_typed(("msgpack", attack(canary)))
    assert canary.exists()
    canary.unlink()
    with pytest.raises(CheckpointRefused, match=r"os\.system is not on the allow-list"):
        STRICT.loads_typed(("msgpack", attack(canary)))
    assert not canary.exists()


async def test_a_row_planted_in_the_database_is_refused(migrated_database_url: str, tmp_path: Path) -> None:
    """Whoever can write to the table gets nothing executed by the saver that reads it."""
    canary = tmp_path / "canary"
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    async with open_saver(migrated_database_url) as saver:
        checkpoint: Any = {"v": 4, "id": "1", "ts": "2026-01-01T00:00:00+00:00", "updated_channels": None}
        checkpoint |= {
            "channel_values": {"value": [1]},
            "channel_versions": {"value": "1"},
            "versions_seen": {},
        }
        await saver.aput(config, checkpoint, {}, {"value": "1"})
        async with await psycopg.AsyncConnection.connect(
            migrated_database_url, autocommit=True
        ) as connection:
            await connection.execute("UPDATE checkpoint_blobs SET blob = %s", [attack(canary)])
        with pytest.raises(CheckpointRefused):
            await saver.aget_tuple(config)
    assert not canary.exists()


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("re", "compile")]
)
def test_no_form_of_a_row_names_a_type_freely(code: int, module: str, name: str) -> None:
    """Every way in which a row can ask for a call is closed."""
    with pytest.raises(CheckpointRefused):
        STRICT.loads_typed(("msgpack", extension(code, module, name, ["1"], "fromisoformat")))


@pytest.mark.parametrize("method", ["now", "__reduce__", "strptime"])
def test_no_method_can_be_named(method: str) -> None:
    """Of all methods only the one that reads a date is called."""
    with pytest.raises(CheckpointRefused):
        STRICT.loads_typed(("msgpack", extension(3, "datetime", "datetime", "2026-01-01", method)))


@pytest.mark.parametrize("kind", ["json", "pickle", "msgpack2", ""])
def test_no_other_format_is_read(kind: str) -> None:
    """Pickle and JSON rows are refused whatever they hold."""
    with pytest.raises(CheckpointRefused, match="never read"):
        STRICT.loads_typed((kind, b"{}"))


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        b"",
        b"\x92\x01",
        ormsgpack.packb(ormsgpack.Ext(0, b"\xff")),
        extension(6, "<i8", [1]),
        extension(9),
    ],
)
def test_damaged_rows_are_refused(payload: bytes) -> None:
    """Bytes that are no message of ours never come back as data."""
    with pytest.raises(CheckpointRefused):
        STRICT.loads_typed(("msgpack", payload))


def test_a_row_of_nested_extensions_is_refused() -> None:
    """Ten thousand extensions inside each other do not bring the process down."""
    payload = b"\x01"
    for _ in range(10_000):
        payload = ormsgpack.packb(ormsgpack.Ext(7, payload))
    with pytest.raises(CheckpointRefused):
        STRICT.loads_typed(("msgpack", payload))


def test_a_model_that_no_longer_fits_is_refused() -> None:
    """A model is validated when read: a half-valid one is not handed on."""
    row = extension(5, "phoenix.domain.project", "Sized", {"size": "huge"}, "model_validate_json")
    assert isinstance(permissive().loads_typed(("msgpack", row)), Frozen)
    with pytest.raises(CheckpointRefused, match="Sized does not fit"):
        STRICT.loads_typed(("msgpack", row))


@pytest.mark.parametrize(
    "value",
    [
        Request(text="Build a shop"),
        Questions(request=DIGEST, items=[Question(id="Q1", text="Which?", default="Both")]),
        Usage(calls=3, cost_usd=Decimal("0.1")),
        [Usage(), {"deep": [Request(text="x")]}],
        {"a": 1, 2: "b", "c": None, "d": [1.5, True], "e": b"x"},
        chat.HumanMessage("hi", id="1"),
        chat.SystemMessage("be brief"),
        chat.AIMessage(
            "yes",
            tool_calls=[{"name": "bash", "args": {"command": "ls"}, "id": "1"}],
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        ),
        chat.AIMessage(content=[{"type": "text", "text": "yes"}]),
        chat.ToolMessage("done", tool_call_id="1", artifact={"path": "a.py"}, status="error"),
        chat.RemoveMessage(id="1"),
        Send("node", Request(text="x")),
        Send("node", {1, 2}, timeout=5.0),
        Interrupt(value={"kind": "ask"}, id="abc"),
        Command(update={"a": Request(text="x")}, resume={"abc": 1}, goto=[Send("node", 1)]),
        Overwrite([1]),
        TimeoutPolicy(run_timeout=5.0),
        _DeltaSnapshot([chat.HumanMessage("hi", id="1")]),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        date(2026, 1, 2),
        time(1, 2, 3, tzinfo=UTC),
        timedelta(days=1, microseconds=5),
        UUID(int=7),
        {Request(text="x").text, "b"},
        frozenset({1}),
        deque([1, 2]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_allowed_values_come_back_equal(value: Any) -> None:
    """What Phoenix, LangChain and LangGraph keep in checkpoints round-trips in value and type."""
    back = through(value)
    assert back == value
    assert type(back) is type(value)


def test_the_bytes_are_langgraphs_own() -> None:
    """The stock serializer, told the types, reads what this one writes, and the other way round."""
    value = {"request": Request(text="x"), "at": datetime(2026, 1, 1, tzinfo=UTC), "send": Send("n", {1})}
    stock = JsonPlusSerializer(allowed_msgpack_modules=[Request])
    assert stock.loads_typed(STRICT.dumps_typed(value)) == value
    assert STRICT.loads_typed(stock.dumps_typed(value)) == value


@pytest.mark.parametrize(
    "value", [Recipe(title="soup"), Colour.RED, Point(1), os.stat_result, object(), Path("x")]
)
def test_a_type_that_is_not_allowed_is_refused_when_written(value: Any) -> None:
    """A checkpoint that could not be read back is never written, however deep the value lies."""
    for nested in (value, [value], {"a": [value]}, Send("node", value), {"s": {"x": (value,)}}):
        with pytest.raises(CheckpointRefused, match="not on the allow-list"):
            STRICT.dumps_typed(nested)


def test_users_types_are_allowed_on_one_instance() -> None:
    """A flow's own models pass where they were registered, and nowhere else."""
    serializer = StrictSerializer(Recipe)
    serializer.allow(Colour, Recipe)
    assert through([Recipe(title="soup"), Colour.RED], serializer) == [Recipe(title="soup"), Colour.RED]
    with pytest.raises(CheckpointRefused):
        STRICT.loads_typed(serializer.dumps_typed(Recipe(title="soup")))


def test_a_second_type_of_the_same_name_is_refused() -> None:
    """Two types that a row could not tell apart are never allowed together."""
    other = type("Recipe", (Frozen,), {"__module__": __name__})
    with pytest.raises(CheckpointRefused, match="another allowed type"):
        StrictSerializer(Recipe, other)


@pytest.mark.parametrize("kind", [type(os), type(len), Path])
def test_arbitrary_classes_cannot_be_allowed(kind: type) -> None:
    """Only values can be registered: models, enums and dataclasses."""
    with pytest.raises(CheckpointRefused, match="neither"):
        StrictSerializer(kind)


def test_langgraph_cannot_widen_the_list() -> None:
    """A graph's annotations do not add types behind our back."""
    assert STRICT.with_msgpack_allowlist([("os", "system")]) is STRICT


def test_integers_over_64_bits_are_refused_with_a_hint() -> None:
    """What msgpack cannot hold is named, with the place to mend it."""
    with pytest.raises(CheckpointRefused, match=r"phoenix\.domain\.cleaning"):
        STRICT.dumps_typed({"n": 2**70})


def test_errors_are_kept_as_text() -> None:
    """An exception in a checkpoint is its text, as LangGraph keeps it."""
    assert through({"error": ValueError("no")}) == {"error": "ValueError('no')"}
