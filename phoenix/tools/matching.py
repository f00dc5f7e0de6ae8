"""Three-valued matching of patterns: yes, no, or maybe where something is not known."""

from __future__ import annotations

import ipaddress
import posixpath
import re
import socket
from collections.abc import Iterable, Sequence
from enum import IntEnum
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from phoenix.domain.permissions import Ground
from phoenix.tools.acts import Word

DEEP = "**"


class Match(IntEnum):
    """Ordered, so that what must all hold is their minimum, and what may one hold their maximum."""

    NO = 0
    MAYBE = 1
    YES = 2


def _closed(pattern: Sequence[str], states: Iterable[int]) -> set[int]:
    """Add the places reached by letting `**` stand for nothing."""
    found = set(states)
    for place, part in enumerate(pattern):
        if place in found and part == DEEP:
            found.add(place + 1)
    return found


def _after(pattern: Sequence[str], words: Sequence[Word], *, possible: bool) -> set[int]:
    """Return the places in a pattern where it can stand after these words.

    With `possible`, unknown words may turn out as anything; else only `*` and `**` take them.
    """
    states = _closed(pattern, {0})
    for word in words:
        reached: set[int] = set()
        for place in states:
            if possible and word.many:
                reached |= set(range(place, len(pattern) + 1))
            if place == len(pattern):
                continue
            part = pattern[place]
            if part == DEEP:
                reached.add(place)
            elif word.text is None:
                if possible or (part == "*" and not word.many):
                    reached.add(place + 1)
            elif fnmatchcase(word.text, part):
                reached.add(place + 1)
        states = _closed(pattern, reached)
        if not states:
            break
    return states


def match_sequence(pattern: Sequence[str], words: Sequence[Word]) -> Match:
    """Match words with a pattern, each of whose parts is a glob of one word, or `**`."""
    if len(pattern) in _after(pattern, words, possible=False):
        return Match.YES
    return Match.MAYBE if len(pattern) in _after(pattern, words, possible=True) else Match.NO


def command_pattern(pattern: str) -> list[str]:
    """Return the parts of a command pattern; a last `*` stands for any number of words."""
    parts = pattern.split()
    return [*parts[:-1], DEEP] if parts[-1:] == ["*"] else parts


def normal_path(path: str, roots: Sequence[str] = ()) -> str:
    """Return a path without `.`, `..` and doubled slashes, relative where it is below a root."""
    clean = posixpath.normpath(path.strip() or ".")
    if clean.startswith("//"):
        clean = clean[1:]
    for root in roots:
        below = posixpath.normpath(root)
        if clean == below or clean.startswith(f"{below}/"):
            return clean[len(below) :].lstrip("/") or "."
    return clean


def _segments(path: str) -> list[Word]:
    return [] if path == "." else [Word(part) for part in path.split("/")]


def match_path(pattern: str, word: Word, ground: Ground, *, strict: bool) -> Match:
    """Match a path, as it is written and as links lead.

    With `strict`, as for what is allowed, both must match and a relative pattern takes no path outside the
    repository. Else one is enough, and a folder in which something may match gives maybe.
    """
    if word.text is None:
        return Match.MAYBE
    written = normal_path(word.text, ground.roots)
    place = ground.places.get(written)
    forms = {written, normal_path(place.real, ground.roots)} if place else {written}
    parts = normal_path(pattern).split("/")
    found = [_match_form(parts, form, strict=strict) for form in sorted(forms)]
    if strict:
        return min(found)
    best = max(found)
    is_folder = place.is_folder if place else written == "."
    if best is Match.NO and is_folder and any(_after(parts, _segments(f), possible=False) for f in forms):
        return Match.MAYBE
    return best


def _match_form(parts: Sequence[str], form: str, *, strict: bool) -> Match:
    outside = form.startswith(("/", "../")) or form == ".."
    if strict and outside and parts[0] != "":
        return Match.NO
    return match_sequence(parts, _segments(form))


_ADDRESS = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)


def normal_host(host: str) -> str:
    """Return a host in lower case without its last dot; a number of any form as an address."""
    clean = host.strip().strip("[]").rstrip(".").lower()
    if _ADDRESS.fullmatch(clean) and any(c.isdigit() for c in clean):
        try:
            return socket.inet_ntoa(socket.inet_aton(clean))
        except OSError:
            pass
    try:
        return str(ipaddress.ip_address(clean))
    except ValueError:
        return clean


_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>|;)}]+", re.IGNORECASE)
_SCP = re.compile(r"(?:[\w.-]+@)([\w.-]+|\[[0-9a-f:]+\])(?::|$)", re.IGNORECASE)
_DEVICE = re.compile(r"/dev/(?:tcp|udp)/([^/\s]+)/")


def hosts_in(text: str) -> list[str]:
    """Return the hosts that a text names as a URL, as `user@host:` or as a device of the shell."""
    found = []
    for url in _URL.findall(text):
        try:
            name = urlsplit(url).hostname
        except ValueError:
            name = None
        # What cannot be read is kept as it is: it may fit a pattern, and is never lost.
        found.append(name or url)
    found += _SCP.findall(text) + _DEVICE.findall(text)
    return [normal_host(name) for name in found]


def match_host(pattern: str, word: Word) -> Match:
    """Match one host."""
    if word.text is None:
        return Match.MAYBE
    return Match.YES if fnmatchcase(word.text, normal_host(pattern)) else Match.NO
