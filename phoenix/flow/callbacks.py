"""Tool and model calls of steps, as LangChain reports them, to hooks."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler

from phoenix.flow.hooks import (
    Hooks,
    ModelFinished,
    ModelStarted,
    ToolFinished,
    ToolStarted,
    current_place,
    fire,
)


class HookCallbacks(AsyncCallbackHandler):
    """Fires tool and model hooks. A hook's error reaches the call, so that it can stop a run."""

    raise_error = True
    run_inline = True

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._open: dict[UUID, tuple[str, float]] = {}

    def _end(self, run_id: UUID) -> tuple[str, float]:
        name, began = self._open.pop(run_id, ("", time.monotonic()))
        return name, time.monotonic() - began

    async def on_tool_start(
        self, serialized: dict[str, Any], input_str: str, *, run_id: UUID, **kwargs: Any
    ) -> None:
        name = str(kwargs.get("name") or (serialized or {}).get("name") or "tool")
        self._open[run_id] = (name, time.monotonic())
        given = kwargs.get("inputs") or input_str
        await fire(self._hooks.pre_tool, ToolStarted(current_place.get(), name, given, str(run_id)))

    async def on_tool_end(self, output: Any, *, run_id: UUID, **_kwargs: Any) -> None:
        name, seconds = self._end(run_id)
        done = ToolFinished(current_place.get(), name, str(run_id), seconds, output=output)
        await fire(self._hooks.post_tool, done)

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **_kwargs: Any) -> None:
        name, seconds = self._end(run_id)
        done = ToolFinished(current_place.get(), name, str(run_id), seconds, error=error)
        await fire(self._hooks.post_tool, done)

    async def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[Any]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        name = str((kwargs.get("metadata") or {}).get("ls_model_name") or kwargs.get("name") or "model")
        self._open[run_id] = (name, time.monotonic())
        await fire(self._hooks.pre_model, ModelStarted(current_place.get(), name, messages, str(run_id)))

    async def on_llm_end(self, response: Any, *, run_id: UUID, **_kwargs: Any) -> None:
        name, seconds = self._end(run_id)
        done = ModelFinished(current_place.get(), name, str(run_id), seconds, output=response)
        await fire(self._hooks.post_model, done)

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **_kwargs: Any) -> None:
        name, seconds = self._end(run_id)
        done = ModelFinished(current_place.get(), name, str(run_id), seconds, error=error)
        await fire(self._hooks.post_model, done)
