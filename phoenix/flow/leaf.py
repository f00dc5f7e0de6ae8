"""The graph node of a step: type checks, attempts, validators, cache and hooks around its function."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langgraph.errors import GraphBubbleUp, NodeError
from langgraph.runtime import Runtime
from langgraph.types import Command, RetryPolicy, TimeoutPolicy
from pydantic_core import to_jsonable_python

from phoenix.errors import FlowInvalid, StepRejected
from phoenix.flow.compile import Jump, Label, Position, State, Update, Value, resolve
from phoenix.flow.failure import is_containable, note_step
from phoenix.flow.feedback import Feedback
from phoenix.flow.hooks import Place, StepFailed, StepFinished, StepStarted, base_path, current_place, fire
from phoenix.flow.typecheck import check_of, mismatch, misreturn
from phoenix.flow.verdict import Accept, Redirect, Reject, Replace

if TYPE_CHECKING:
    from phoenix.flow.cache import StepCache
    from phoenix.flow.compile import Builder
    from phoenix.flow.step import Step

_FINAL = "phoenix_final"


@dataclass(frozen=True)
class _Checks:
    """The run-time type checks of a step; each refusal names producer and consumer."""

    step: Step[Any, Any]
    graph: Builder

    def refuse_input(self, value: Any) -> Exception:
        return mismatch(value, self.step.takes, self.graph.producers(self.step.name), self.step.name)

    def refuse_output(self, output: Any) -> Exception:
        return misreturn(output, self.step.gives, self.step.name, self.graph.consumers(self.step.name))


def add_leaf(
    step: Step[Any, Any],
    graph: Builder,
    entry: Label,
    after: Label,
    *,
    cache: StepCache | None = None,
    rescue: Label | None = None,
) -> None:
    """Add a step's node to a graph; `rescue` is where the flow goes on when all attempts failed."""
    node = graph.unique(step.name)
    entry.target = node
    options: dict[str, Any] = {}
    if step.max_attempts > 1:
        options["retry_policy"] = _retry_policy(step)
    if step.timeout_seconds is not None:
        options["timeout"] = TimeoutPolicy(run_timeout=step.timeout_seconds)
    if rescue is not None:
        options["error_handler"] = _rescuer(rescue)
    hooks = graph.hooks
    watched = hooks.watch_steps or hooks.watch_calls
    full = watched or step.validators or step.feedback_parameter or cache is not None
    if not full:
        graph.add(node, _plain(step, _Checks(step, graph)), after, reads=Value, **options)
        return
    targets = {id(flow): Label() for flow in step.redirects}
    attempts = _Attempts(step, graph, entry, targets, cache, (*graph.path, step.name))
    graph.add(node, attempts.node(), after, jumps=bool(step.validators), **options)
    for flow in step.redirects:
        flow.build(graph, targets[id(flow)], after)


def _retry_policy(step: Step[Any, Any]) -> RetryPolicy:
    """Return LangGraph's policy; an error marked final is not tried again."""

    def wanted(error: Exception) -> bool:
        return not getattr(error, _FINAL, False) and _is_wanted(step.retry, error)

    return step.retry._replace(retry_on=wanted)


def _is_wanted(policy: RetryPolicy, error: Exception) -> bool:
    wanted = policy.retry_on
    if isinstance(wanted, type):
        return isinstance(error, wanted)
    if callable(wanted):
        return bool(wanted(error))
    return isinstance(error, tuple(wanted))


def _rescuer(rescue: Label) -> Callable[..., Awaitable[Command[Any]]]:
    async def handle(state: State, error: NodeError) -> Command[Any]:
        if not is_containable(error.error):
            raise error.error
        update: Update = {"tries": 0} if state.get("tries") else {}
        return Command(update=update, goto=resolve(rescue, Position.after(state, update)))

    return handle


def _plain(step: Step[Any, Any], checks: _Checks) -> Callable[..., Awaitable[Update]]:
    """Return the node of a step that needs nothing but its checks, which are all it costs."""
    takes, gives = check_of(step.takes), check_of(step.gives)
    function, name = step.function, step.name
    value_name, runtime_name = step.value_parameter, step.runtime_parameter

    async def with_runtime(state: Value, runtime: Runtime[Any]) -> Update:
        value = state["value"]
        try:
            if takes is not None and not takes(value):
                raise checks.refuse_input(value)
            output = await function(**{value_name: value, runtime_name: runtime})
            if gives is not None and not gives(output):
                raise checks.refuse_output(output)
        except Exception as error:
            note_step(error, name)
            raise
        return {"value": output}

    async def without(state: Value) -> Update:
        value = state["value"]
        try:
            if takes is not None and not takes(value):
                raise checks.refuse_input(value)
            output = await function(value)
            if gives is not None and not gives(output):
                raise checks.refuse_output(output)
        except Exception as error:
            note_step(error, name)
            raise
        return {"value": output}

    return with_runtime if runtime_name or not step.value_is_first else without


class _Attempts:
    """The node of a step with hooks, validators, feedback or a cache."""

    def __init__(
        self,
        step: Step[Any, Any],
        graph: Builder,
        again: Label,
        targets: dict[int, Label],
        cache: StepCache | None,
        path: tuple[str, ...],
    ) -> None:
        self.step = step
        self.hooks = graph.hooks
        self.checks = _Checks(step, graph)
        self.takes, self.gives = check_of(step.takes), check_of(step.gives)
        self.again = again
        self.targets = targets
        self.cache = cache
        self.path = path

    def node(self) -> Callable[..., Awaitable[Update | Jump]]:
        """Return the node's function."""

        async def attempt(state: State, runtime: Runtime[Any]) -> Update | Jump:
            return await self.attempt(state, runtime)

        return attempt

    async def attempt(self, state: State, runtime: Runtime[Any]) -> Update | Jump:
        """Try once, telling the hooks how it went."""
        info = runtime.execution_info
        number = state.get("tries", 0) + (info.node_attempt if info else 1)
        thread = info.thread_id if info else None
        place = Place(self.step.name, base_path.get() + self.path, thread, number)
        current_place.set(place)
        await fire(self.hooks.pre_step, StepStarted(place, state["value"]))
        began = time.monotonic()
        try:
            return await self._try(state, runtime, place, began)
        except GraphBubbleUp:
            raise
        except asyncio.CancelledError:
            await self._cancelled(place, time.monotonic() - began)
            raise
        except Exception as error:
            await self._failed(error, place, time.monotonic() - began)
            raise

    async def _try(self, state: State, runtime: Runtime[Any], place: Place, began: float) -> Update | Jump:
        value, number = state["value"], place.attempt
        if number > self.step.max_attempts:
            raise StepRejected(f"{self.step.name!r} used all its {self.step.max_attempts} attempts.")
        if self.takes is not None and not self.takes(value):
            raise self.checks.refuse_input(value)
        given = state.get("feedback")
        feedback = Feedback.model_validate(given) if given else None
        output, cached = await self._output(value, runtime, feedback)
        verdict: Any = None
        for validator in self.step.validators:
            verdict = validator(value, output)
            if inspect.isawaitable(verdict):
                verdict = await verdict
            if isinstance(verdict, Replace):
                output = self._checked(verdict.output)
            elif verdict is not None and not isinstance(verdict, Accept):
                break
        if isinstance(verdict, Reject):
            return await self._rejected(verdict, output, place, time.monotonic() - began)
        if isinstance(verdict, Redirect):
            return await self._redirected(state, verdict, place, time.monotonic() - began)
        done = StepFinished(place, output, time.monotonic() - began, cached)
        await fire(self.hooks.post_step, done)
        return {"value": output, **self._settled(state)}

    async def _output(self, value: Any, runtime: Runtime[Any], feedback: Feedback | None) -> tuple[Any, bool]:
        """Return a checked output, and whether it came from the cache."""

        async def produce() -> Any:
            return self._checked(await self.step.call(value, runtime, feedback))

        if self.cache is None:
            return await produce(), False
        output, hit = await self.cache.get_or_make(self.step, value, produce)
        return self._checked(output), hit

    def _checked(self, output: Any) -> Any:
        if self.gives is not None and not self.gives(output):
            raise self.checks.refuse_output(output)
        return output

    def _settled(self, state: State) -> Update:
        """Return what clears the feedback and the attempts that this step has used."""
        update: Update = {}
        tried = bool(state.get("tries"))
        if tried:
            update["tries"] = 0
        if state.get("feedback") and (tried or self.step.feedback_parameter):
            update["feedback"] = None
        return update

    async def _rejected(self, verdict: Reject, output: Any, place: Place, seconds: float) -> Jump:
        error = StepRejected(
            f"{self.step.name!r}: {verdict.text}",
            hint=f"Tried {place.attempt} times." if place.attempt > 1 else "",
        )
        if place.attempt >= self.step.max_attempts:
            raise error
        note_step(error, self.step.name)
        await fire(self.hooks.post_step, StepFailed(place, error, seconds, will_retry=True))
        previous = to_jsonable_python(output, fallback=repr)
        feedback = Feedback(source=self.step.name, text=verdict.text, previous=previous)
        return Jump({"tries": place.attempt, "feedback": feedback.model_dump(mode="json")}, self.again)

    async def _redirected(self, state: State, verdict: Redirect, place: Place, seconds: float) -> Jump:
        label = self.targets.get(id(verdict.to))
        if label is None:
            raise FlowInvalid(
                f"{self.step.name!r} was redirected to {verdict.to.name!r}, which it does not list.",
                hint=f"Add {verdict.to.name} to its `redirects`.",
            )
        error = StepRejected(f"{self.step.name!r} was redirected to {verdict.to.name!r}.")
        await fire(self.hooks.post_step, StepFailed(place, error, seconds, will_retry=False))
        return Jump(self._settled(state), label)

    async def _failed(self, error: Exception, place: Place, seconds: float) -> None:
        note_step(error, self.step.name)
        will_retry = place.attempt < self.step.max_attempts and _is_wanted(self.step.retry, error)
        if not will_retry:
            setattr(error, _FINAL, True)
        await fire(self.hooks.post_step, StepFailed(place, error, seconds, will_retry))

    async def _cancelled(self, place: Place, seconds: float) -> None:
        """Tell the hooks of a timeout: LangGraph cancels the attempt and raises its own error outside."""
        limit = self.step.timeout_seconds
        if limit is not None and seconds >= limit:
            error = TimeoutError(f"{self.step.name!r} took longer than {limit} s")
            will_retry = place.attempt < self.step.max_attempts and _is_wanted(self.step.retry, error)
            await fire(self.hooks.post_step, StepFailed(place, error, seconds, will_retry))
