"""The one kind of model that may live in a checkpoint, an event or an artifact."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[
    str,
    StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$"),
    Field(json_schema_extra={"readOnly": True}),
]
"""Content address of a model: ``sha256:`` and 64 hex digits. Read-only in edit forms."""

Commit = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{40}$"),
    Field(json_schema_extra={"readOnly": True}),
]
"""A git commit id. Read-only in edit forms."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Text that says something."""


class Frozen(BaseModel):
    """An immutable, strict, versioned value.

    New fields of a released model get defaults, so that old checkpoints still load.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")

    def digest(self) -> str:
        """Return the content address: SHA-256 over the class name and the canonical JSON."""
        return digest_of({"type": type(self).__name__, "value": self.model_dump(mode="json")})


def digest_of(value: Any) -> str:
    """Return ``sha256:<hex>`` of a JSON-compatible value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
