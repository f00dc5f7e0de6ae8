"""cached: a step whose outputs are kept, by step and input."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from phoenix.domain.frozen import digest_of
from phoenix.errors import FlowInvalid
from phoenix.flow.algebra import Flow
from phoenix.flow.compile import Builder, Label
from phoenix.flow.inference import Checker, Incoming
from phoenix.flow.leaf import add_leaf
from phoenix.flow.mermaid import Drawing, Source

if TYPE_CHECKING:
    from phoenix.flow.step import Step


class Cache(Protocol):
    """Where outputs are kept. Losing an entry costs only the work of making it again."""

    async def get(self, key: str) -> bytes | None:
        """Return what was put, or None."""

    async def put(self, key: str, output: bytes) -> None:
        """Keep an output as JSON."""


class InMemoryCache:
    """A cache that lives as long as the process; the oldest entries go first."""

    def __init__(self, max_entries: int = 1024) -> None:
        self._entries: dict[str, bytes] = {}
        self._max_entries = max_entries

    async def get(self, key: str) -> bytes | None:
        """Return what was put, or None."""
        return self._entries.get(key)

    async def put(self, key: str, output: bytes) -> None:
        """Keep an output as JSON."""
        self._entries[key] = output
        while len(self._entries) > self._max_entries:
            del self._entries[next(iter(self._entries))]


@dataclass
class StepCache:
    """The cache of one step. Callers with the same input at the same time share one execution."""

    cache: Cache
    version: str = ""
    locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def get_or_make(
        self, step: Step[Any, Any], value: Any, make: Callable[[], Awaitable[Any]]
    ) -> tuple[Any, bool]:
        """Return the output, and whether it was there. Only a success is kept."""
        key = self._key(step, value)
        adapter: TypeAdapter[Any] = TypeAdapter(step.gives)
        lock = self.locks.setdefault((id(asyncio.get_running_loop()), key), asyncio.Lock())
        async with lock:
            found = await self.cache.get(key)
            if found is not None:
                try:
                    return adapter.validate_json(found), True
                except ValidationError:
                    found = None  # an entry of an older type: made again below
            output = await make()
            await self.cache.put(key, adapter.dump_json(output))
            return output, False

    def _key(self, step: Step[Any, Any], value: Any) -> str:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        content = to_jsonable_python(value)
        return digest_of({"step": step.name, "version": self.version, "type": kind, "value": content})


@dataclass(frozen=True, eq=False)
class Cached(Flow[Any, Any]):
    """A step with a cache. Made by `cached`."""

    name: str
    step: Step[Any, Any]
    cache: StepCache

    def bodies(self) -> tuple[Flow[Any, Any], ...]:
        return (self.step,)

    def build(self, graph: Builder, entry: Label, after: Label) -> None:
        add_leaf(self.step, graph, entry, after, cache=self.cache)

    def add_with_rescue(self, graph: Builder, entry: Label, after: Label, rescue: Label) -> None:
        """Add the step's node with a way out when it fails."""
        add_leaf(self.step, graph, entry, after, cache=self.cache, rescue=rescue)

    def infer(self, checker: Checker, incoming: Incoming) -> Incoming:
        return self.step.infer(checker, incoming)

    def draw(self, drawing: Drawing, sources: list[Source]) -> list[Source]:
        return self.step.draw(drawing, sources)

    def supersteps(self) -> int:
        return self.step.supersteps()


def cached(step: Step[Any, Any], /, *, cache: Cache | None = None, version: str = "") -> Cached:
    """Keep a step's outputs by its input. A hit is marked in the step's finished event.

    Args:
        step: Its output must be made of JSON or pydantic models.
        cache: Where outputs are kept; in memory when left out.
        version: Change it when the step does something else than before.

    Raises:
        FlowInvalid: it is no step; cache the steps of a pipeline one by one.
    """
    if not hasattr(step, "gives"):
        raise FlowInvalid(f"{step.name!r} is not a step.", hint="Cache the steps of a pipeline one by one.")
    return Cached(step.name, step, StepCache(cache or InMemoryCache(), version))
