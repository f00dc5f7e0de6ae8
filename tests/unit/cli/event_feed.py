"""Events of an imagined project, numbered as a log numbers them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from phoenix.cli.view import View
from phoenix.domain.run import Event

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Feed:
    """Makes events and keeps the view they give."""

    def __init__(self, view: View | None = None) -> None:
        self.project, self.root = uuid4(), uuid4()
        self.view = view or View(title="A list", model="openai:m", sandbox="bubblewrap")
        self.events: list[Event] = []

    def add(self, kind: str, run: UUID | None = None, /, **data: Any) -> Event:
        seq = len(self.events) + 1
        event = Event(
            seq=seq,
            project_id=self.project,
            run_id=run or self.root,
            kind=kind,
            data=data,
            at=BEGAN + timedelta(seconds=seq),
        )
        self.events.append(event)
        self.view = self.view.apply(event)
        return event

    def child(self, key: str) -> UUID:
        run = uuid4()
        self.add("run_started", run, key=key)
        return run
