"""Why something was sent back: the one channel by which a reason reaches a step."""

from __future__ import annotations

from typing import Any

from phoenix.domain.frozen import Frozen


class Feedback(Frozen):
    """A reason for doing a step again. A step that declares `Feedback | None` receives it."""

    source: str
    """Who sent it back: a gate such as `spec`, or a validator."""
    text: str
    previous: Any = None
    """What was sent back: its digest, or its JSON."""
