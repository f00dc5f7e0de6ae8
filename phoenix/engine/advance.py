"""Advance one run: from where its checkpoints end to its next stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import structlog
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Command
from pydantic import ValidationError
from sqlalchemy.exc import OperationalError

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.run import ATTEMPT_KEY, FRESH_KEY, RUN_KEY, Run, RunError
from phoenix.engine.lifecycle import Answers, Lifecycle, Taken
from phoenix.engine.pauses import Pauses, is_full
from phoenix.engine.programs import Programs, as_json
from phoenix.errors import (
    BudgetSpent,
    DatabaseUnavailable,
    DiskFull,
    FlowError,
    NotFound,
    PhoenixError,
    RunSuperseded,
    WorkspaceBusy,
)
from phoenix.flow.failure import step_of
from phoenix.ports import Ports
from phoenix.storage.deaths import SUSPECT
from phoenix.storage.runs import PendingInterrupt
from phoenix.telemetry import context, tracing
from phoenix.telemetry.metrics import QUEUE_SECONDS, RUN_SECONDS
from phoenix.telemetry.redaction import mask_line

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Interrupt, StateSnapshot

log = structlog.get_logger(__name__)

DATABASE_PAUSE_SECONDS = 1.0
ENTRY = "branch:to:"
"""How LangGraph names the channel that lets a node begin."""
INTERRUPT = "__interrupt__"
"""LangGraph's key of interrupts among the values of a stream."""


@dataclass
class InHand:
    """A run that this process advances."""

    taken: Taken
    control: RunControl
    """Asked to drain, the graph stops at its next checkpoint."""
    task: asyncio.Task[Any] | None
    job: int | None = None
    """The queue's, which has it advanced."""
    superseded: bool = False
    """Its row has moved on: nothing of this attempt may be written any more."""
    over: bool = False
    is_suspect: bool = False
    """It was in hand when workers died, and got no further yet: its worker takes no other such run."""


class Advance:
    """Advances runs one at a time for each call.

    Args:
        lifecycle: Changes the runs' rows.
        programs: The flows.
        ports_of: Makes the ports of a run.
        pauses: Told of a step that found no space; says why runs are handed back.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        programs: Programs,
        ports_of: Callable[[Taken], Ports],
        pauses: Pauses | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._programs = programs
        self._ports_of = ports_of
        self._pauses = pauses or Pauses()
        self.running: dict[UUID, InHand] = {}
        self._on_threads: dict[UUID, Taken] = {}
        self.threads: dict[UUID, UUID] = {}
        """The threads of runs in hand, and of those about to be taken."""
        self.closing = False
        """This process stops or pauses: what is taken now is handed back at once."""

    def on_thread(self, thread_id: UUID) -> Taken | None:
        """Return the run in hand that works on a thread."""
        return self._on_threads.get(thread_id)

    async def __call__(self, run_id: UUID, thread_id: UUID | None = None, job: int | None = None) -> None:
        """Take a run, if there is anything to do on it, and leave it ended, waiting or handed back."""
        self.threads[run_id] = thread_id or run_id
        try:
            taken = await self._lifecycle.take(run_id)
            if taken is not None:
                await self._in_hand(taken, job)
        except NotFound:
            log.warning("run_missing", run_id=str(run_id))
        finally:
            self.threads.pop(run_id, None)

    async def _in_hand(self, taken: Taken, job: int | None) -> None:
        run = taken.run
        if self.closing:
            await self._hand_back(run)
            return
        suspected = run.crashes >= SUSPECT
        hand = InHand(taken, RunControl(), asyncio.current_task(), job, is_suspect=suspected)
        self.running[run.id] = hand
        self._on_threads[run.thread_id] = taken
        began = time.monotonic()
        organisation = taken.project.organisation_id
        about = {"organisation_id": str(organisation), "project_id": str(run.project_id)}
        about |= {"run_id": str(run.id), "task": run.key}
        with context.bound(**about, attempt=run.attempt), tracing.turn(_subject(taken)):
            log.info("run_taken", flow=run.flow, key=run.key)
            if run.queued_at is not None and run.taken_at is not None:
                QUEUE_SECONDS.labels(run.queue).observe((run.taken_at - run.queued_at).total_seconds())
            try:
                await self._guarded(hand)
            except RunSuperseded as error:
                log.info("run_superseded", error=str(error))
            finally:
                hand.over = True
                self.running.pop(run.id, None)
                self._on_threads.pop(run.thread_id, None)
                seconds = time.monotonic() - began
                RUN_SECONDS.labels(run.flow).observe(seconds)
                log.info("run_left", flow=run.flow, key=run.key, seconds=round(seconds, 3))

    async def _guarded(self, hand: InHand) -> None:
        """Drive a run; hand it back when this worker is told to stop."""
        try:
            await self._recorded(hand)
        except GraphDrained:
            await self._hand_back(hand.taken.run)
        except asyncio.CancelledError:
            if hand.superseded:
                # It was taken away from this worker, which goes on.
                raise RunSuperseded from None
            await self._hand_back(hand.taken.run)
            raise

    async def _hand_back(self, run: Run) -> None:
        """Give a run to any worker; where not even that can be written, the sweep will."""
        try:
            await self._lifecycle.hand_back(run, reason=self._pauses.reason)
        except DiskFull as error:
            log.warning("run_not_handed_back", error=str(error))

    async def _recorded(self, hand: InHand) -> None:
        """Drive a run; whatever goes wrong is written to its row."""
        try:
            await self._drive(hand)
        except (RunSuperseded, DatabaseUnavailable, GraphDrained):
            raise
        except Exception as error:  # noqa: BLE001 the worker's loop: any error of a step ends its run
            await self._failed(hand, error)

    async def _failed(self, hand: InHand, error: Exception) -> None:
        """Write to a run's row how it failed, unless it is not the run's fault: then it is tried again."""
        run, project = hand.taken.run, hand.taken.project
        if isinstance(error, BudgetSpent) and await self._lifecycle.wait_for_budget(run, project, error):
            log.info("run_waits_for_budget", step=step_of(error))
        elif is_full(error):
            self._pauses.because_of(error)
            await self._hand_back(run)
        elif isinstance(error, WorkspaceBusy):
            # Whoever takes it next waits again.
            log.warning("workspace_busy", error=error.message)
            await self._hand_back(run)
        elif isinstance(error, (OperationalError, psycopg.OperationalError)):
            # Its row stays `running`, and the sweep puts it back into the queue.
            log.warning("database_lost", error=str(error).strip())
            await asyncio.sleep(DATABASE_PAUSE_SECONDS)
            raise error
        else:
            log_failure(error)
            await self._finish_failed(hand, error)

    async def _finish_failed(self, hand: InHand, error: Exception) -> None:
        try:
            await self._lifecycle.finish(hand.taken.run, error=error_of(error), job=hand.job)
        except DiskFull as full:
            # It will fail again, and by then its row can say so.
            self._pauses.because_of(full)
            log.warning("run_not_finished", error=str(full))

    async def _drive(self, hand: InHand) -> None:
        taken, run = hand.taken, hand.taken.run
        graph = self._programs.graph(run.flow)
        config = config_of(run)
        ports = self._ports_of(taken)
        if taken.is_fresh:
            payload: Any = self._programs.start(run.flow, taken.input)
            config["configurable"][FRESH_KEY] = True
            values = await _stream(graph, payload, config, ports, hand.control)
            config = config_of(run)
            if values is not None:
                await self._lifecycle.finish(run, output=as_json(values.get("value")), job=hand.job)
                return
            payload, state = STAY, await graph.aget_state(config)
        else:
            state = await graph.aget_state(config)
            if has_begun(run, state):
                await check_steps(graph, config, state)
            payload = await self._first(taken, state)
            if state.created_at is not None and not has_begun(run, state):
                config = await self._onward(run, config, state)
        while True:
            if payload is not STAY:
                await _stream(graph, payload, config, ports, hand.control)
                config = config_of(run)
                state = await graph.aget_state(config)
            interrupts = [pending(i) for i in state.interrupts]
            if not interrupts:
                output = as_json(state.values.get("value"))
                await self._lifecycle.finish(run, output=output, job=hand.job)
                return
            answers = await self._lifecycle.pause(run, interrupts)
            if not answers:
                return
            payload = resume(answers)

    async def _onward(self, run: Run, config: RunnableConfig, state: StateSnapshot) -> RunnableConfig:
        """Return the config with which a thread's next run begins, where the thread stands or once stood."""
        head = str(state.config["configurable"]["checkpoint_id"])
        base = run.base_checkpoint
        if base is None:
            await self._lifecycle.remember_base(run, head)
        if base in (None, head):
            return config
        return {**config, "configurable": {**config["configurable"], "checkpoint_id": base}}

    async def _first(self, taken: Taken, state: StateSnapshot) -> Any:
        """Return what a run's graph goes on with: its input, answers, None after a crash, or STAY."""
        if not has_begun(taken.run, state):
            return self._programs.start(taken.run.flow, taken.input)
        interrupts = [pending(i) for i in state.interrupts]
        # An interrupted attempt may have cleared the wake flag: looking once more does no harm.
        answers = await self._lifecycle.answers(taken.run, interrupts, woken=True)
        if answers:
            return resume(answers)
        return STAY if taken.was_waiting and interrupts and not taken.was_unpaid else None


def _subject(taken: Taken) -> tracing.Subject:
    run = taken.run
    return tracing.Subject(
        project=str(run.project_id),
        traceparent=taken.project.traceparent,
        run=str(run.id),
        parent_run="" if run.parent_id is None else str(run.parent_id),
        key=run.key,
        flow=run.flow,
        attempt=run.attempt,
        created_at=run.created_at,
    )


def config_of(run: Run) -> RunnableConfig:
    """Return the config of a run's graph; the checkpointer refuses writes of an attempt that has passed."""
    fence = {RUN_KEY: str(run.id), ATTEMPT_KEY: run.attempt}
    return {
        "configurable": {"thread_id": str(run.thread_id), **fence},
        "metadata": {"run_id": str(run.id)},
    }


def has_begun(run: Run, state: StateSnapshot) -> bool:
    """Tell whether the latest checkpoint of a run's thread is its own, and not an earlier run's."""
    if state.created_at is None:
        return False
    # Checkpoints of the first version do not say whose they are: a thread had one run then.
    of = (state.metadata or {}).get("run_id", str(run.thread_id))
    return of == str(run.id)


async def check_steps(
    graph: CompiledStateGraph[Any, Any, Any, Any], config: RunnableConfig, state: StateSnapshot
) -> None:
    """Check that the step at which a run stands is still there: a graph without it would seem to have ended.

    Raises:
        FlowError: it is not; the flow was changed meanwhile.
    """
    saver = graph.checkpointer
    if state.next or not isinstance(saver, BaseCheckpointSaver):
        return
    found = await saver.aget_tuple(config)
    values = found.checkpoint["channel_values"] if found is not None else {}
    steps = [channel.removeprefix(ENTRY) for channel in values if channel.startswith(ENTRY)]
    if lost := sorted(set(steps) - set(graph.nodes)):
        raise FlowError(
            f"This run stands at {', '.join(lost)}, which its flow no longer has.",
            hint="Bring it back and run `phoenix resume`, or fork the project from an earlier checkpoint.",
        )


STAY = object()
"""Nothing to go on with: the run waits on."""


async def _stream(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    payload: Any,
    config: RunnableConfig,
    ports: Ports,
    control: RunControl,
) -> dict[str, Any] | None:
    """Run a graph to its next stop; return its output, or None where that may not be the end."""
    stream = graph.astream(
        payload, config, context=ports, stream_mode="values", durability="sync", control=control
    )
    last: Any = None
    interrupted = False
    async with aclosing(stream) as values:  # type: ignore[type-var]
        async for last in values:
            interrupted = interrupted or not isinstance(last, dict) or INTERRUPT in last
    return None if interrupted else last


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
    # One message reports it to who runs a command: as a warning it is for those who asked for logs.
    log.warning("run_failed", step=step_of(error), error=type(error).__name__, exc_info=error)


def error_of(error: BaseException) -> RunError:
    """Return an error as a run's row holds it."""
    step = step_of(error)
    if isinstance(error, PhoenixError):
        return RunError(code=error.code, category=error.category, message=mask_line(str(error)), step=step)
    message = mask_line(str(error).strip()) or "no message"
    return RunError(
        code="unexpected", category="permanent", message=f"{type(error).__name__}: {message}", step=step
    )
