"""Secrets that stand elsewhere: what refers to them, and values that are renewed while a process runs."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import SecretStr

from phoenix.errors import SecretUnavailable, SettingInvalid

StoreName = Literal["vault", "aws", "file"]
_REFERENCE = re.compile(rf"({'|'.join(get_args(StoreName))}):(.*)", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """Where a secret stands: `vault:PATH#FIELD`, `aws:NAME`, `aws:NAME#FIELD` or `file:PATH`."""

    store: StoreName
    path: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.store}:{self.path}{f'#{self.field}' if self.field else ''}"


def parse_reference(text: str, *, said: str) -> Reference | None:
    """Return what a value refers to; None when it is a value itself.

    Args:
        text: The setting's value.
        said: The setting's name, for errors.

    Raises:
        SettingInvalid: it begins as a reference and is none. The value is not repeated.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    store: StoreName = match[1]  # type: ignore[assignment] # the pattern allows no other
    path, hash_, name = (match[2], "", "") if store == "file" else match[2].partition("#")
    is_whole = bool(path) and (bool(name) or not hash_) and (bool(name) or store != "vault")
    if not is_whole or not text.isprintable():
        shape = {"vault": "vault:PATH#FIELD", "aws": "aws:NAME or aws:NAME#FIELD", "file": "file:PATH"}
        raise SettingInvalid("it is no whole reference.", field=said, hint=f"Write it as {shape[store]}.")
    return Reference(store, path, name)


class LiveSecret(SecretStr):
    """A secret from a store: `get_secret_value` returns what the store said last.

    Args:
        value: What it said first.
        reference: Where it stands.
        said: The setting's name.
        max_age_seconds: For how long a value counts that the store no longer confirms; 0 for ever.
    """

    def __init__(self, value: str, *, reference: Reference, said: str, max_age_seconds: float = 0.0) -> None:
        super().__init__(value)
        self.reference = reference
        self.said = said
        self.max_age_seconds = max_age_seconds
        self._confirmed_at = time.monotonic()

    @property
    def age_seconds(self) -> float:
        """How long ago the store last confirmed the value."""
        return time.monotonic() - self._confirmed_at

    def get_secret_value(self) -> str:
        """Return the value.

        Raises:
            SecretUnavailable: the store has not confirmed it for too long.
        """
        if self.max_age_seconds and self.age_seconds > self.max_age_seconds:
            raise SecretUnavailable(
                f"{self.reference.store} has not confirmed {self.reference} for {self.age_seconds:.0f} s.",
                field=self.said,
                hint="See that the store can be reached; PHOENIX_SECRETS_MAX_AGE_SECONDS is the limit.",
            )
        return super().get_secret_value()

    def renew(self, value: str) -> bool:
        """Take in what the store says now. Returns whether it is another value."""
        changed = value != self._secret_value
        self._secret_value = value
        self._confirmed_at = time.monotonic()
        return changed
