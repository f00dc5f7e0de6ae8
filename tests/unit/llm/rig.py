"""What the model gateway's tests share beside fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from phoenix.llm.models import ProjectModels
from phoenix.llm.patience import Patience

Open = Callable[..., ProjectModels]
KEY = "sk-a-very-secret-key-0123456789"
SWIFT = Patience(deadline_seconds=5.0, first_wait_seconds=0.01)


class Heard:
    """The events that were emitted, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    async def emit(self, kind: str, **data: Any) -> None:
        self.all.append((kind, data))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [data for k, data in self.all if k == kind]
