"""Running a flow from Python: start, stream and resume take the same way."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from phoenix.errors import FlowInvalid, ResumeRefused
from phoenix.flow.hooks import Hooks, RunFinished, RunStarted, fire
from phoenix.flow.pending import Pending, answer, pending

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from phoenix.domain.approval import Decision
    from phoenix.flow.algebra import Flow


@dataclass(frozen=True)
class StepOutput:
    """What one node of the graph gave. `path` names the subgraphs around it, then the node."""

    path: tuple[str, ...]
    value: Any


@dataclass(frozen=True)
class Result:
    """The end of a run."""

    value: Any


@dataclass(frozen=True)
class Waiting:
    """A run that waits for people or child runs. Resume the same thread with answers by interrupt id."""

    requests: tuple[Pending, ...]
    thread_id: str


Item: TypeAlias = StepOutput | Result | Waiting


class Run:
    """One flow on one thread."""

    def __init__(
        self,
        flow: Flow[Any, Any],
        *,
        checkpointer: BaseCheckpointSaver[Any] | None,
        hooks: Hooks | None,
        config: RunnableConfig | None,
        context: Any,
    ) -> None:
        self._flow = flow
        self._checkpointer = checkpointer
        self._hooks = hooks or Hooks()
        self._graph = flow.compile(checkpointer=checkpointer, hooks=hooks)
        given = dict((config or {}).get("configurable", {}))
        given.setdefault("thread_id", str(uuid4()))
        self._thread_id = str(given["thread_id"])
        self._config: RunnableConfig = {**(config or {}), "configurable": given}
        self._context = context

    async def start(self, value: Any) -> Any:
        """Run to the end or the next pause."""
        return await _last(self.stream_start(value))

    async def resume(self, answers: Mapping[str, Decision | dict[str, Any]]) -> Any:
        """Go on to the end or the next pause."""
        return await _last(self.stream_resume(answers))

    async def stream_start(self, value: Any) -> AsyncIterator[Item]:
        """Yield what each step gives, and the result last."""
        if self._checkpointer is not None:
            state = await self._graph.aget_state(self._config)
            if state.next:
                raise ResumeRefused(
                    f"The thread {self._thread_id} is not at its end: new input would drop its work.",
                    hint="Resume it, or start another thread.",
                )
        elif any(inner.pauses for inner in self._flow.walk()):
            raise FlowInvalid(
                f"{self._flow.name!r} asks people, so it needs a checkpointer.",
                hint="Pass checkpointer=InMemorySaver().",
            )
        started = RunStarted(self._flow.name, self._thread_id, value)
        async for item in self._stream({"value": value}, started):
            yield item

    async def stream_resume(self, answers: Mapping[str, Decision | dict[str, Any]]) -> AsyncIterator[Item]:
        """Yield what each remaining step gives, and the result last."""
        state = await self._graph.aget_state(self._config)
        crashed = not answers and isinstance(answers, Mapping) and any(not t.interrupts for t in state.tasks)
        given = None if crashed else answer(state, answers)
        started = RunStarted(self._flow.name, self._thread_id, resumed=True)
        async for item in self._stream(given, started):
            yield item

    async def _stream(self, given: Any, started: RunStarted) -> AsyncIterator[Item]:
        began = time.monotonic()
        await fire(self._hooks.pre_run, started)
        try:
            last: Item | None = None
            async for item in self._items(given):
                last = item
                if isinstance(item, StepOutput):
                    yield item
        except Exception as error:
            await self._finished("failed", began, error=error)
            raise
        if isinstance(last, Result):
            await self._finished("success", began, value=last.value)
        else:
            await self._finished("waiting", began)
        if last is not None:
            yield last

    async def _finished(
        self, status: str, began: float, *, value: Any = None, error: BaseException | None = None
    ) -> None:
        seconds = time.monotonic() - began
        payload = RunFinished(self._flow.name, self._thread_id, status, seconds, value, error)
        await fire(self._hooks.post_run, payload)

    async def _items(self, given: Any) -> AsyncIterator[Item]:
        # LangGraph cannot be durable without a checkpointer.
        durable: Any = {"durability": "sync"} if self._checkpointer is not None else {}
        value: Any = None
        async for namespace, mode, data in self._graph.astream(
            given,
            self._config,
            context=self._context,
            stream_mode=["updates", "values"],
            subgraphs=True,
            **durable,
        ):
            if mode == "values":
                if not namespace:
                    value = data.get("value")
                continue
            around = tuple(part.partition(":")[0] for part in namespace)
            for node, update in data.items():
                if isinstance(update, dict) and "value" in update:
                    yield StepOutput((*around, node), update["value"])
        if self._checkpointer is not None:
            state = await self._graph.aget_state(self._config)
            if state.next:
                yield Waiting(tuple(pending(state)), self._thread_id)
                return
        yield Result(value)


async def _last(items: AsyncIterator[Item]) -> Any:
    last: Item | None = None
    async for item in items:
        last = item
    return last.value if isinstance(last, Result) else last
