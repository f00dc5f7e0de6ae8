"""The checkpoints of a project, as a person reads them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from phoenix.domain.approval import HumanRequest
from phoenix.domain.frozen import Frozen

SHORT_ID = 8


class Moment(Frozen):
    """One checkpoint of one of a project's runs."""

    checkpoint: str
    run_id: UUID
    key: str = ""
    """The child run, such as `build/1/T3`; empty for the project's own run."""
    path: list[str] = []
    """Graphs around the step, within the run: a coding agent's are below the step that called it."""
    step: str
    """What had just been done; `start` for a run's input."""
    next: list[str] = []
    """What is done next; empty at a run's end."""
    asks: list[str] = []
    """What it waits for there: approvals by name, or `tasks` for child runs."""
    value: str = ""
    """The kind of value that goes on to the next step, such as `Spec`."""
    commit: str = ""
    """The code at that moment; empty where there is none yet."""
    calls: int = 0
    """Model calls of the whole project up to then."""
    cost_usd: Decimal | None = Decimal(0)
    """What they cost; None when the price of one is unknown."""
    at: datetime

    @property
    def short(self) -> str:
        """The end of the id, by which `--at` knows it: ids of one hour begin alike."""
        return self.checkpoint[-SHORT_ID:]

    @property
    def is_own(self) -> bool:
        """Whether it is one of the project's own run, between two of its steps."""
        return not self.key and not self.path


class Looked(Frozen):
    """One checkpoint with what lies in it."""

    moment: Moment
    value: Any = None
    """What goes on to the next step, as JSON."""
    requests: list[HumanRequest] = []
    """What people are asked there."""


class ForkOrder(Frozen):
    """What a fork shall be like. What is left out is as in the project that it comes from."""

    title: str = ""
    model: str = ""
    approvals: str = ""
    budget_usd: Decimal | None = None
    edit: dict[str, Any] | None = None
    """Another value of what is asked about at the checkpoint, as JSON."""
    reuse: bool = False
    """Take over what was made after the checkpoint where nothing it read has changed."""
