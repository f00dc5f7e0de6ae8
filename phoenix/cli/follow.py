"""Following a project: events in, a screen kept up to date, people asked, until it stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from phoenix.cli.gates import TerminalAsker
from phoenix.cli.output import DELIVERED, FAILED, WAITING, say, summary_of
from phoenix.cli.view import ENDS, View
from phoenix.domain.run import FINISHED, Event, Project
from phoenix.errors import DatabaseUnavailable, DecisionConflict, DomainInvalid, ServiceUnreachable

if TYPE_CHECKING:
    from phoenix.cli.connection import Connection
    from phoenix.cli.screen import Screen
    from phoenix.engine.launch import Overview

TICK_SECONDS = 0.25
QUIET_SECONDS = 5.0
"""After so long without an event, the run's row is read: it is the truth."""

BUFFER = 1000
GATE_EVENTS = frozenset({"run_waiting", "run_finished"})
POLICY = "policy"
ARTIFACT_OF = {"spec": "spec", "plan": "plan", "delivery": "evidence", "questions": "questions"}
"""What a gate decides on, as the kind of artifact it is stored as."""


@dataclass
class Follower:
    """Follows one project. `asker` is None where nobody can be asked; `policy` names who decides instead."""

    connection: Connection
    project: Project
    screen: Screen
    asker: TerminalAsker | None = None
    policy: str = "by policy (--approve)"
    said: str = ""
    """Why the worker of this process pauses, as it was last said."""

    async def past(self, view: View) -> View:
        """Return the view after all events so far, shown nowhere."""
        while True:
            events = await self.connection.client.events(self.project.id, after=view.seq)
            if not events:
                return view
            for event in events:
                view = view.apply(event)

    async def follow(self, view: View) -> View:
        """Show what happens after a view until the project ends, or waits for somebody not here."""
        self.screen.start(view)
        try:
            if await self._gates(view):
                return replace(view, status="waiting")
            async with aclosing(self._news(view.seq)) as news:  # type: ignore[type-var]
                return await self._until_still(view, news)
        finally:
            self.screen.stop()

    async def _until_still(self, view: View, news: AsyncIterator[Event | None]) -> View:
        quiet, paused = 0.0, False
        drawn = asyncio.get_running_loop().time()
        async for event in news:
            now = asyncio.get_running_loop().time()
            if event is None or now - drawn >= TICK_SECONDS:
                self.screen.tick(view)
                self._say_pause()
                drawn = now
            paused = _paused(paused, event)
            if event is None and paused and await self._is_at_rest():
                return replace(view, status="paused")
            if event is None:
                quiet += TICK_SECONDS
                if quiet % QUIET_SECONDS == 0:
                    view = await self._by_row(view, quiet)
            else:
                quiet = 0.0
                view = view.apply(event)
                self.screen.show(view, event)
                await self._show_policy(event)
            if view.status in ENDS.values():
                return view
            if event is not None and event.kind in GATE_EVENTS and await self._gates(view):
                return replace(view, status="waiting")
        return view

    async def _overview(self, *, patient: bool = True) -> Overview:
        return await self.connection.client.overview(self.project.id, patient=patient)

    async def _is_at_rest(self) -> bool:
        """Tell whether nobody works on a run of the project any more."""
        overview = await self._overview()
        return not any(run.status == "running" for run in (overview.run, *overview.children))

    def _say_pause(self) -> None:
        """Say when the worker of this process pauses, and when it goes on."""
        if self.connection.paused == self.said:
            return
        self.said = self.connection.paused
        if self.said:
            say(f"paused: {self.said} Nothing is lost; Ctrl-C stops.")
        else:
            say("going on")

    async def _news(self, after: int) -> AsyncIterator[Event | None]:
        """Yield events as they come, and None whenever there was none for a moment."""
        queue: asyncio.Queue[Event] = asyncio.Queue(maxsize=BUFFER)

        async def pump() -> None:
            follow = self.connection.client.follow(self.project.id, after=after)
            async with aclosing(follow) as events:
                async for event in events:
                    await queue.put(event)

        task = asyncio.create_task(pump(), name="event pump")
        try:
            while True:
                # Not `wait_for`: before Python 3.12 it loses a cancellation that comes with an event.
                try:
                    async with asyncio.timeout(TICK_SECONDS):
                        event = await queue.get()
                except TimeoutError:
                    if task.done():
                        task.result()
                        raise DatabaseUnavailable("The event log has ended.") from None
                    yield None
                else:
                    yield event
                me = asyncio.current_task()
                if me is not None and me.cancelling():
                    raise asyncio.CancelledError  # one that a library lost
        finally:
            while not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=1)

    async def _by_row(self, view: View, quiet: float) -> View:
        """Return the view as the run's row says, should its last event not have come."""
        try:
            run = (await self._overview(patient=False)).run
        except (DatabaseUnavailable, ServiceUnreachable):
            if quiet >= self.connection.client.patience_seconds:
                raise
            return view
        if run.status not in FINISHED:
            return view
        error = run.error.model_dump(mode="json") if run.error else None
        return replace(view, status=ENDS[run.status], error=error)

    async def _gates(self, view: View) -> bool:
        """Ask what can be asked here; tell whether the project now waits for somebody else."""
        if not view.gates:
            return False
        overview = await self._overview()
        if self.asker is None:
            return stands_still(overview)
        with self.screen.paused():
            for approval in overview.approvals:
                try:
                    decision = await self.asker.ask(approval, overview.artifacts)
                    digest = approval.request.value_digest
                    await self.connection.client.decide(approval.id, decision, digest=digest)
                except (DecisionConflict, DomainInvalid) as error:
                    self.screen.present(str(error))
                except EOFError:
                    self.asker = None
                    return True
        return False

    async def _show_policy(self, event: Event) -> None:
        """Show what a policy decided, in plain sight: nobody was asked."""
        if event.kind != "approval_decided" or event.data.get("by") != POLICY:
            return
        from phoenix.cli.documents import of_kind
        from phoenix.cli.lines import past

        name = str(event.data.get("name", ""))
        kind = ARTIFACT_OF.get(name, name)
        artifacts = (await self._overview()).artifacts
        shown = of_kind(kind, artifacts[kind]) if kind in artifacts else None
        self.screen.present(f"{name}: {past(str(event.data.get('verdict')))} {self.policy}", shown)


def _paused(before: bool, event: Event | None) -> bool:
    """Tell whether a project is paused after an event."""
    changes = {"project_paused": True, "project_unpaused": False}
    return before if event is None else changes.get(event.kind, before)


def stands_still(overview: Overview) -> bool:
    """Tell whether nothing goes on before somebody decides."""
    runs = (overview.run, *overview.children)
    return bool(overview.approvals) and not any(run.status in ("pending", "running") for run in runs)


def summary(view: View, overview: Overview) -> dict[str, Any]:
    """Return the last JSON line: how the project stands."""
    delivery = overview.artifacts.get("delivery", {})
    cost = overview.usage.cost_usd
    found = summary_of(str(overview.project.id), view.status) | {
        "branch": delivery.get("branch") or view.branch or None,
        "commit": delivery.get("commit") or view.commit or None,
        "evidence": delivery.get("report") or None,
        "cost_usd": None if cost is None else float(cost),
        "tasks": [
            {
                "task": t.task,
                "title": t.title,
                "status": t.status,
                "reason": t.reason,
                "reused": t.reused,
            }
            for t in view.tasks
        ],
    }
    if overview.run.flow != "develop" and overview.run.output is not None:
        found["output"] = overview.run.output
    if view.status == "waiting":
        found["waiting_for"] = [
            {"approval_id": str(a.id), "kind": a.request.kind, "name": a.request.name}
            for a in overview.approvals
        ]
    if view.error:
        found["error"] = dict(view.error)
    return found


def exit_code(view: View) -> int:
    """Return 0 when delivered, 3 when waiting for someone or paused, else 1."""
    return {"delivered": DELIVERED, "waiting": WAITING, "paused": WAITING}.get(view.status, FAILED)
