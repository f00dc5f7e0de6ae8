"""PostgreSQL's binary arrays, built by hand: one value of a column is a cell, its length before its bytes.

A batch has thousands of cells and the driver's own arrays look at each of them in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from psycopg import AsyncConnection
from psycopg.adapt import Dumper
from psycopg.pq import Format

from phoenix.errors import CheckpointRefused

NULL = b"\xff\xff\xff\xff"
LONGEST = 2**30 - 1
"""Bytes of the longest value that PostgreSQL keeps."""

_length = struct.Struct(">i").pack
_header = struct.Struct(">iiIii").pack
_number = struct.Struct(">ii").pack
_EMPTY = struct.Struct(">iiI").pack


def cell(value: bytes) -> bytes:
    """Return bytes as a cell.

    Raises:
        CheckpointRefused: they are too many for one value.
    """
    if len(value) > LONGEST:
        raise CheckpointRefused(f"a value of {len(value)} bytes is too long for a checkpoint.")
    return _length(len(value)) + value


@lru_cache(maxsize=32768)
def text(value: str) -> bytes:
    """Return text as a cell; ids and names come again and again.

    Raises:
        CheckpointRefused: it has no UTF-8.
    """
    try:
        return cell(value.encode())
    except UnicodeEncodeError as error:
        raise CheckpointRefused(f"{value!r} cannot be stored: {error.reason}.") from error


@lru_cache(maxsize=4096)
def number(value: int) -> bytes:
    """Return an integer of 32 bits as a cell."""
    return _number(4, value)


class Array(bytes):
    """A one-dimensional array of some type, ready for the wire."""

    element: ClassVar[int]
    oid: ClassVar[int]

    @classmethod
    def of(cls, cells: Sequence[bytes]) -> Array:
        """Return an array of cells."""
        if not cells:
            return cls(_EMPTY(0, 0, cls.element))
        return cls(_header(1, 1, cls.element, len(cells), 1) + b"".join(cells))


class Texts(Array):
    """text[]."""

    element, oid = 25, 1009


class Blobs(Array):
    """bytea[]."""

    element, oid = 17, 1001


class Numbers(Array):
    """int4[]."""

    element, oid = 23, 1007


class Ids(Array):
    """uuid[]."""

    element, oid = 2950, 2951


class Jsons(Array):
    """jsonb[]."""

    element, oid = 3802, 3807


ARRAYS = (Texts, Blobs, Numbers, Ids, Jsons)
JSONB_VERSION = b"\x01"


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj


_DUMPERS = [(kind, type(f"{kind.__name__}Dumper", (_AsItIs,), {"oid": kind.oid})) for kind in ARRAYS]


def prepare(connection: AsyncConnection[Any]) -> None:
    """Teach a connection to send arrays as they are."""
    for kind, dumper in _DUMPERS:
        connection.adapters.register_dumper(kind, dumper)
