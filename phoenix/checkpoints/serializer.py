"""The serializer of checkpoints: msgpack, and only types on an allow-list.

The bytes are those of LangGraph's `JsonPlusSerializer`. That one imports and calls whatever a row names, or
hands back the bare data of what it does not know; here the row is refused, when written and when read.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

import ormsgpack
from langchain_core import messages as chat
from langchain_core.documents import Document
from langgraph.checkpoint.serde import jsonplus as wire
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Command, Interrupt, Overwrite, Send, TimeoutPolicy
from pydantic import BaseModel

from phoenix.domain.schemas import models
from phoenix.errors import CheckpointRefused
from phoenix.telemetry.redaction import mask_line

Key = tuple[str, str]

ALLOWED: tuple[type, ...] = (
    *models(),
    *(datetime, date, time, timedelta, timezone, UUID, Decimal, set, frozenset, deque),
    *(chat.HumanMessage, chat.AIMessage, chat.SystemMessage, chat.ToolMessage, chat.RemoveMessage),
    *(chat.ChatMessage, chat.FunctionMessage, chat.AIMessageChunk, Document),
    *(Send, Interrupt, Command, Overwrite, TimeoutPolicy),
)
"""What every checkpoint may hold beside plain data. Renaming or moving one breaks released checkpoints."""

_PACK = (
    ormsgpack.OPT_NON_STR_KEYS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_REPLACE_SURROGATES
)
_REBUILD: dict[int, Callable[[type, Any], Any]] = {
    wire.EXT_CONSTRUCTOR_SINGLE_ARG: lambda kind, value: kind(value),
    wire.EXT_CONSTRUCTOR_POS_ARGS: lambda kind, value: kind(*value),
    wire.EXT_CONSTRUCTOR_KW_ARGS: lambda kind, value: kind(**value),
    wire.EXT_PYDANTIC_V2: lambda kind, value: kind(**value),
}


class StrictSerializer(wire.JsonPlusSerializer):
    """Reads and writes plain data and allowed types; anything else raises CheckpointRefused.

    Args:
        types: Models of the user's own flows that this instance also allows.
    """

    def __init__(self, *types: type) -> None:
        super().__init__(allowed_msgpack_modules=None, allowed_json_modules=None, pickle_fallback=False)
        self._types: dict[Key, type] = {_key(kind): kind for kind in ALLOWED}
        self.allow(*types)
        self._hook = self._encode

    def allow(self, *types: type) -> None:
        """Allow more types, on this instance only. Idempotent.

        Raises:
            CheckpointRefused: another type of the same module and name is allowed already, or the type
                is neither a pydantic model, nor an enum, nor a dataclass.
        """
        for kind in types:
            if not (issubclass(kind, BaseModel | Enum) or dataclasses.is_dataclass(kind)) and (
                self._types.get(_key(kind)) is not kind
            ):
                _refuse(_key(kind), "is neither a pydantic model, nor an enum, nor a dataclass")
            if self._types.setdefault(_key(kind), kind) is not kind:
                _refuse(_key(kind), "is the name of another allowed type")

    def with_msgpack_allowlist(self, extra_allowlist: Any) -> StrictSerializer:
        """Return this serializer: what LangGraph finds in a graph's annotations widens nothing."""
        return self

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Return the kind and bytes of a value.

        Raises:
            CheckpointRefused: it holds something that could not be read back.
        """
        if obj is None:
            return "null", b""
        if isinstance(obj, bytes):
            return "bytes", obj
        if isinstance(obj, bytearray):
            return "bytearray", bytes(obj)
        try:
            return "msgpack", ormsgpack.packb(obj, default=self._hook, option=_PACK)
        except ormsgpack.MsgpackEncodeError:
            return "msgpack", self._pack(obj)  # which says why

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Return the value of these bytes.

        Raises:
            CheckpointRefused: they name a type that is not allowed, or are damaged.
        """
        kind, payload = data
        if kind == "null":
            return None
        if kind == "bytes":
            return payload
        if kind == "bytearray":
            return bytearray(payload)
        if kind != "msgpack":
            raise CheckpointRefused(f"a checkpoint is stored as {kind!r}, which is never read.", hint=_HINT)
        return self._unpack(payload)

    def _pack(self, value: Any) -> bytes:
        refused: list[CheckpointRefused] = []

        def encode(item: Any) -> Any:
            try:
                return self._encode(item)
            except CheckpointRefused as error:
                refused.append(error)
                raise

        try:
            return ormsgpack.packb(value, default=encode, option=_PACK)
        except ormsgpack.MsgpackEncodeError as error:
            # ormsgpack drops what the hook raised, so the hook keeps it.
            if refused:
                raise refused[0] from error
            raise CheckpointRefused(
                f"a value cannot be written to a checkpoint: {error}.",
                hint="Clean it with phoenix.domain.cleaning where it enters.",
            ) from error

    def _unpack(self, payload: bytes) -> Any:
        refused: list[CheckpointRefused] = []

        def decode(code: int, data: bytes) -> Any:
            try:
                return self._decode(code, data)
            except CheckpointRefused as error:
                refused.append(error)
                raise

        try:
            return ormsgpack.unpackb(payload, ext_hook=decode, option=ormsgpack.OPT_NON_STR_KEYS)
        except ValueError as error:
            if refused:
                raise refused[0] from error
            raise CheckpointRefused(f"a checkpoint is damaged: {error}.", hint=_HINT) from error

    def _encode(self, item: Any) -> Any:
        """Return what stands for a value that msgpack does not know."""
        if isinstance(item, _DeltaSnapshot):
            return ormsgpack.Ext(wire.EXT_DELTA_SNAPSHOT, self._pack(item.value))
        if isinstance(item, BaseException):
            # It quotes what it was raised with.
            return mask_line(repr(item))
        key = _key(type(item))
        if self._types.get(key) is not type(item):
            _refuse(key, "is not on the allow-list")
        code, *rest = _taken_apart(item)
        return ormsgpack.Ext(code, self._pack((*key, *rest)))

    def _decode(self, code: int, data: bytes) -> Any:
        """Return the value that an extension of msgpack stands for."""
        content = self._unpack(data)
        if code == wire.EXT_DELTA_SNAPSHOT:
            return _DeltaSnapshot(content)
        if (
            not isinstance(content, list)
            or len(content) < 3
            or not all(isinstance(c, str) for c in content[:2])
        ):
            raise CheckpointRefused(f"a checkpoint holds an extension {code} of unknown form.", hint=_HINT)
        key = (content[0], content[1])
        kind = self._types.get(key)
        if kind is None:
            _refuse(key, "is not on the allow-list")
        if code == wire.EXT_METHOD_SINGLE_ARG and kind is datetime and content[3:] == ["fromisoformat"]:
            return datetime.fromisoformat(content[2])
        if code not in _REBUILD:
            _refuse(key, f"is stored in form {code}, which is never read")
        try:
            return _REBUILD[code](kind, content[2])
        except (ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise CheckpointRefused(
                f"a checkpoint's {key[1]} does not fit its type: {error}.", hint=_HINT
            ) from error


_HINT = "Nothing of it was executed. Fork the run from an earlier checkpoint, or start it anew."


def _key(kind: type) -> Key:
    return kind.__module__, kind.__name__


def _refuse(key: Key, why: str) -> NoReturn:
    raise CheckpointRefused(
        f"the type {'.'.join(key)} {why}.",
        hint="If it belongs to a flow of yours, register it with StrictSerializer.allow. " + _HINT,
    )


_TIME_FIELDS = ("hour", "minute", "second", "microsecond", "tzinfo", "fold")
_ONE, _SEVERAL, _NAMED = (
    wire.EXT_CONSTRUCTOR_SINGLE_ARG,
    wire.EXT_CONSTRUCTOR_POS_ARGS,
    wire.EXT_CONSTRUCTOR_KW_ARGS,
)
_APART: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    UUID: lambda v: (_ONE, v.hex),
    Decimal: lambda v: (_ONE, str(v)),
    set: lambda v: (_ONE, tuple(v)),
    frozenset: lambda v: (_ONE, tuple(v)),
    deque: lambda v: (_ONE, tuple(v)),
    datetime: lambda v: (wire.EXT_METHOD_SINGLE_ARG, v.isoformat(), "fromisoformat"),
    timedelta: lambda v: (_SEVERAL, (v.days, v.seconds, v.microseconds)),
    date: lambda v: (_SEVERAL, (v.year, v.month, v.day)),
    timezone: lambda v: (_SEVERAL, v.__getinitargs__()),
    time: lambda v: (_NAMED, {name: getattr(v, name) for name in _TIME_FIELDS}),
    Send: lambda v: (_NAMED, {"node": v.node, "arg": v.arg, "timeout": v.timeout}),
}


def _taken_apart(item: Any) -> tuple[Any, ...]:
    """Return the wire's code for a type and what rebuilds the value."""
    if type(item) in _APART:
        return _APART[type(item)](item)
    if isinstance(item, BaseModel):
        return wire.EXT_PYDANTIC_V2, item.model_dump(), "model_validate_json"
    if isinstance(item, Enum):
        return _ONE, item.value
    return _NAMED, {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
