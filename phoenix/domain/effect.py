"""What is done outside of Phoenix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Effect:
    """Something to be done outside of Phoenix: a push, a pull request, a webhook.

    The same kind and key again are the same effect. The payload is JSON, and no secret is in it.
    """

    kind: str
    key: str
    payload: Mapping[str, Any]
