"""Advance one run: from where its checkpoints end to its next stop."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import structlog
from langgraph.types import Command
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.run import RunError
from phoenix.engine.lifecycle import Answers, Lifecycle, Taken
from phoenix.engine.programs import Programs, as_json
from phoenix.errors import DatabaseUnavailable, FlowError, NotFound, PhoenixError, RunSuperseded
from phoenix.flow.failure import step_of
from phoenix.ports import Ports
from phoenix.storage.runs import PendingInterrupt

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Interrupt, StateSnapshot

log = structlog.get_logger(__name__)

DATABASE_PAUSE_SECONDS = 1.0
TRACEBACK_FRAMES = 12


class Advance:
    """Advances runs one at a time for each call; `running` are those in hand now."""

    def __init__(self, lifecycle: Lifecycle, programs: Programs, ports_of: Callable[[Taken], Ports]) -> None:
        self._lifecycle = lifecycle
        self._programs = programs
        self._ports_of = ports_of
        self.running: dict[UUID, Taken] = {}

    async def __call__(self, run_id: UUID) -> None:
        """Take a run, if there is anything to do on it, and leave it ended, waiting or handed back."""
        try:
            taken = await self._lifecycle.take(run_id)
        except NotFound:
            log.warning("run_missing", run_id=str(run_id))
            return
        if taken is None:
            return
        self.running[run_id] = taken
        with structlog.contextvars.bound_contextvars(
            project_id=str(taken.project.id), run_id=str(run_id), attempt=taken.run.attempt
        ):
            try:
                await self._guarded(taken)
            except RunSuperseded as error:
                log.info("run_superseded", error=str(error))
            finally:
                self.running.pop(run_id, None)

    async def _guarded(self, taken: Taken) -> None:
        """Drive a run; hand it back when this worker is told to stop."""
        try:
            await self._recorded(taken)
        except asyncio.CancelledError:
            await self._lifecycle.hand_back(taken.run)
            raise

    async def _recorded(self, taken: Taken) -> None:
        """Drive a run; whatever goes wrong is written to its row."""
        try:
            await self._drive(taken)
        except (RunSuperseded, DatabaseUnavailable):
            raise
        except (OperationalError, psycopg.OperationalError) as error:
            # Not the run's fault: its row stays `running`, and the sweep puts it back into the queue.
            log.warning("database_lost", error=str(error).strip())
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
            raise
        except Exception as error:  # noqa: BLE001 the worker's loop: any error of a step ends its run
            log_failure(error)
            await self._lifecycle.finish(taken.run, error=error_of(error))

    async def _drive(self, taken: Taken) -> None:
        graph = self._programs.graph(taken.run.flow)
        config: RunnableConfig = {"configurable": {"thread_id": str(taken.run.id)}}
        ports = self._ports_of(taken)
        state = await graph.aget_state(config)
        payload = await self._first(taken, state)
        while True:
            if payload is not STAY:
                await _stream(graph, payload, config, ports)
                state = await graph.aget_state(config)
            interrupts = [pending(i) for i in state.interrupts]
            if not interrupts:
                await self._lifecycle.finish(taken.run, output=as_json(state.values.get("value")))
                return
            answers = await self._lifecycle.pause(taken.run, taken.project, interrupts)
            if not answers:
                return
            payload = resume(answers)

    async def _first(self, taken: Taken, state: StateSnapshot) -> Any:
        """Return what a run's graph goes on with: its input, answers, None after a crash, or STAY."""
        if state.created_at is None:
            return self._programs.start(taken.run.flow, taken.input)
        interrupts = [pending(i) for i in state.interrupts]
        # An interrupted attempt may have cleared the wake flag: looking once more does no harm.
        answers = await self._lifecycle.answers(taken.run, interrupts, woken=True)
        if answers:
            return resume(answers)
        return STAY if taken.was_waiting and interrupts else None


STAY = object()
"""Nothing to go on with: the run waits on."""


async def _stream(
    graph: CompiledStateGraph[Any, Any, Any, Any], payload: Any, config: RunnableConfig, ports: Ports
) -> None:
    stream = graph.astream(payload, config, context=ports, stream_mode="updates", durability="sync")
    async with aclosing(stream) as updates:  # type: ignore[type-var]
        async for _ in updates:
            pass


def pending(interrupt: Interrupt[Any]) -> PendingInterrupt:
    """Return an interrupt as Phoenix knows it.

    Raises:
        FlowError: the flow was interrupted by something that is no request.
    """
    value = interrupt.value
    try:
        asked = value if isinstance(value, HumanRequest) else HumanRequest.model_validate(value)
    except ValidationError as error:
        raise FlowError(
            f"An interrupt of this flow is no human request: {error}", hint="Use approve, ask or wait."
        ) from error
    return PendingInterrupt(id=interrupt.id, request=asked)


def resume(answers: Answers) -> Command[Any]:
    """Return the command that answers interrupts, each by its id; there is no other way to resume."""
    values = {
        key: answer.model_dump(mode="json") if isinstance(answer, Decision) else answer
        for key, answer in answers.items()
    }
    return Command(resume=values)


def log_failure(error: Exception) -> None:
    """Log why a run failed; only what Phoenix did not foresee needs its traceback."""
    if isinstance(error, PhoenixError):
        log.info("run_failed", step=step_of(error), error=error.code, message=error.message)
        return
    text = "".join(traceback.format_exception(error, limit=-TRACEBACK_FRAMES))
    log.warning("run_failed", step=step_of(error), error=type(error).__name__, traceback=text)


def error_of(error: BaseException) -> RunError:
    """Return an error as a run's row holds it."""
    step = step_of(error)
    if isinstance(error, PhoenixError):
        return RunError(code=error.code, category=error.category, message=str(error), step=step)
    message = str(error).strip() or "no message"
    return RunError(
        code="unexpected", category="permanent", message=f"{type(error).__name__}: {message}", step=step
    )
