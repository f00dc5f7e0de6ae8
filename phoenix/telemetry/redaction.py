"""Keep secrets out of whatever is written: values that this process knows, names, and well-known forms.

How much is masked depends on what a text is for:

- `mask`: known values and forms that nothing else has. For data that must stay as it is otherwise: events,
  results of tools, documents, prompts.
- `mask_line`: also addresses with a password, bearer tokens and values with a telling name. For what people
  read: logs, spans, errors.
- `mask_secrets`: also long hexadecimal and random-looking text. For memory, which others read later.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from phoenix.telemetry.shapes import (
    ADDRESS,
    BEARER,
    HEX,
    LIKELY,
    LONG,
    MASK,
    NAMED,
    PEM,
    UNMISTAKABLE,
    USER,
    is_random,
    is_secret_name,
)

__all__ = [
    "KNOWN",
    "MASK",
    "Known",
    "hide_addresses",
    "know",
    "mask",
    "mask_json",
    "mask_known",
    "mask_known_json",
    "mask_line",
    "mask_secrets",
    "mask_shapes",
    "redact",
    "redact_named",
]

LEAST_CHARS = 8
"""Shorter values are not masked: they are parts of ordinary words."""
WORD_CHARS = 16
"""Nor are plain words up to so many characters, such as `postgres`."""
MAX_DEPTH = 40
FOLDERS = ("PWD", "OLDPWD")
"""What shells call the folder that one is in, though elsewhere `pwd` is a password."""


class Known:
    """Values that are masked wherever they turn up, in every form in which they may be written."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._forms: tuple[str, ...] = ()

    def add(self, *values: str | bytes | SecretStr | None) -> None:
        """Take in secrets. Of an address only user and password are; empty and too short ones are left."""
        found = set(self._values)
        for value in values:
            found.update(_parts(value))
        if found != self._values:
            forms = {form for value in found for form in _forms(value)}
            # The longest first: one may be a part of another.
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
            self._values = found

    def add_settings(self, settings: BaseModel) -> None:
        """Take in every secret field of settings."""
        for name in type(settings).model_fields:
            value = getattr(settings, name)
            if isinstance(value, SecretStr):
                self.add(value)

    def add_environment(self, environment: Mapping[str, str]) -> None:
        """Take in the variables that hold secrets by their names, and passwords of addresses in others."""
        for name, value in environment.items():
            if name in FOLDERS:
                continue
            if is_secret_name(name) or (name.upper().endswith("_KEY") and "/" not in value):
                self.add(value)
            elif "://" in value and "@" in value:
                self.add(*_credentials(value))

    def mask(self, text: str) -> tuple[str, int]:
        """Return the text without them, and how many were in it."""
        count = 0
        for form in self._forms:
            if form in text:
                count += text.count(form)
                text = text.replace(form, MASK)
        return text, count

    def is_in(self, text: str) -> bool:
        """Tell whether one of them is in a text."""
        return any(form in text for form in self._forms)


KNOWN = Known()
"""What this process knows."""


def know(*values: str | bytes | SecretStr | None) -> None:
    """Have values masked from now on in whatever this process writes."""
    KNOWN.add(*values)


def _parts(value: str | bytes | SecretStr | None) -> Iterator[str]:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bytes):
        yield from (form for form in (value.hex(), base64.b64encode(value).decode()) if value)
        return
    text = (value or "").strip()
    if "://" in text and "\n" not in text:
        yield from _credentials(text)
        return
    # Of a text of several lines, such as a private key, one line alone is as bad.
    for part in {text, *text.splitlines()}:
        if _is_fit(part):
            yield part


def _credentials(address: str) -> Iterator[str]:
    """Yield what is secret in an address: its password, or what its user's place holds where that is all."""
    try:
        found = urlsplit(address)
        user, password = found.username or "", found.password or ""
    except ValueError:
        # What cannot be taken apart is secret as a whole.
        yield address
        return
    for part in (password or user, unquote(password or user)):
        if _is_fit(part):
            yield part


def _is_fit(text: str) -> bool:
    is_word = text.isalpha() and (text.islower() or text.isupper()) and len(text) < WORD_CHARS
    return len(text) >= LEAST_CHARS and not is_word and not text.startswith("-----") and len(set(text)) > 2


def _forms(value: str) -> Iterator[str]:
    yield value
    yield from (quote(value), quote(value, safe=""), quote_plus(value))
    yield quote(value, safe="").replace("%2F", "%2f").replace("%3D", "%3d").replace("%2B", "%2b")
    for ascii_only in (True, False):
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield once
        yield json.dumps(once)[1:-1]
    yield repr(value)[1:-1]
    data = value.encode(errors="surrogatepass")
    yield from (data.hex(), data.hex().upper())
    for before in range(3):
        # Wherever it begins within what is encoded, these characters are of it alone.
        bits = (before + len(data)) * 8
        start = (0, 2, 3)[before]
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + data).decode()[start : bits // 6]


def mask(text: str) -> str:
    """Return a text without known secrets and what can be nothing else."""
    return _shapes(KNOWN.mask(text)[0])


def mask_line(text: str) -> str:
    """Return a text for people, without what is or is named like a secret."""
    return mask_shapes(KNOWN.mask(text)[0])


def mask_shapes(text: str) -> str:
    """Return a text without what looks or is named like a secret, for who masks what is known later."""
    text = _shapes(text)
    if "://" in text and "@" in text:
        text = ADDRESS.sub(MASK, text)
    if any(word in (lower := text.lower()) for word in _TELLING):
        text = BEARER.sub(rf"\1{MASK}", text)
        if any(word in lower for word in _TELLING[2:]):
            text = NAMED.sub(rf"\1{MASK}", text)
    return text


_BEGINNINGS = (
    *("sk-", "gh", "glpat-", "hf_", "npm_", "pypi-", "xox", "ya29."),
    *("AKIA", "ASIA", "AIza", "eyJ", "phx_", "whsec_"),
)
_TELLING = ("bearer", "basic", "passw", "passphrase", "secret", "token", "api", "access", "credential")
"""A text without any of these has nothing for the slow patterns to find."""


def hide_addresses(text: str) -> str:
    """Return a text whose addresses keep all but user and password; it stays JSON where it was."""
    return USER.sub("://***@", text)


def _shapes(text: str) -> str:
    if "PRIVATE KEY" in text:
        text = PEM.sub(MASK, text)
    return UNMISTAKABLE.sub(MASK, text) if any(b in text for b in _BEGINNINGS) else text


def mask_secrets(text: str) -> tuple[str, int]:
    """Return the text with what looks like a key, token or password masked, and how often it was.

    It errs on the side of masking: long hexadecimal strings go as well, digests included.
    """
    text, count = KNOWN.mask(text)
    for pattern in (PEM, UNMISTAKABLE, LIKELY, ADDRESS):
        text, found = pattern.subn(MASK, text)
        count += found
    for pattern in (NAMED, BEARER):
        text, found = pattern.subn(rf"\1{MASK}", text)
        count += found
    text, found = HEX.subn(MASK, text)
    count += found

    def random_looking(match: re.Match[str]) -> str:
        nonlocal count
        if not is_random(match.group()):
            return match.group()
        count += 1
        return MASK

    return LONG.sub(random_looking, text), count


def redact(value: Any, *, masking: Callable[[str], str] = mask_line, depth: int = MAX_DEPTH) -> Any:
    """Return an equal value without secrets, by name and by text.

    What is neither a container nor plain becomes its text; what lies deeper than `depth` the mask.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth <= 0:
        return MASK
    if isinstance(value, Mapping):
        return {
            masking(str(name)): redact_named(str(name), each, masking=masking, depth=depth - 1)
            for name, each in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(each, masking=masking, depth=depth - 1) for each in value]
    return masking(value.decode(errors="replace") if isinstance(value, bytes) else str(value))


def redact_named(
    name: str, value: Any, *, masking: Callable[[str], str] = mask_line, depth: int = MAX_DEPTH
) -> Any:
    """Return a value without secrets; all of it is one where its name says so. Numbers are none."""
    if is_secret_name(name) and not (value is None or isinstance(value, bool | int | float)):
        return MASK if value else value
    return redact(value, masking=masking, depth=depth)


def mask_json(dumped: bytes) -> bytes:
    """Return JSON without secrets, by name and by text; mostly it is as it was given, which costs little."""
    text = dumped.decode()
    if not (KNOWN.is_in(text) or _shapes(text) != text or _has_keyed(text)):
        return dumped
    return orjson.dumps(redact(orjson.loads(dumped), masking=mask))


def mask_known_json(dumped: bytes) -> bytes:
    """Return JSON without the values that this process knows, and else as it is."""
    return orjson.dumps(mask_known(orjson.loads(dumped))) if KNOWN.is_in(dumped.decode()) else dumped


def _has_keyed(text: str) -> bool:
    return any(is_secret_name(name) for name in _NAME.findall(text))


_NAME = re.compile(r'"([\w.-]{3,64})":\s?["\[{]')
"""A name in JSON whose value is no number."""


def mask_known(body: Any) -> Any:
    """Return a JSON value without the values that this process knows, and else as it is."""
    if isinstance(body, str):
        return KNOWN.mask(body)[0]
    if isinstance(body, dict):
        return {KNOWN.mask(name)[0]: mask_known(each) for name, each in body.items()}
    if isinstance(body, list):
        return [mask_known(each) for each in body]
    return body
