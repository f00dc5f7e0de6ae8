"""Find what looks like a secret in text that is kept or shown to others."""

from __future__ import annotations

import re
from itertools import pairwise

MASK = "[secret]"

_KNOWN = re.compile(
    r"""
    -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | \b(?:sk|pk|rk)[-_](?:[A-Za-z0-9]+[-_])*[A-Za-z0-9_-]{16,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|xox[a-z]-|ya29\.)[A-Za-z0-9_.-]{10,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | \bAIza[A-Za-z0-9_-]{20,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?
    """,
    re.VERBOSE | re.DOTALL,
)
"""Forms that providers give their keys, JSON web tokens and private keys."""

_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_NAMED = re.compile(
    r"""(?ix)
    \b([\w-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credential)s?["']?
       \s*(?:=(?!=)|:)\s*(?:bearer\s+)?)
    (?:"[^"\n]{4,}"|'[^'\n]{4,}'|[^\s"'`,;(){}\[\]]{8,})
    """
)
_BEARER = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/-]{12,}=*")
_LONG = re.compile(r"[A-Za-z0-9+_-]{24,}={0,2}")
_HEX = re.compile(r"\b[0-9a-f]{32,}\b", re.IGNORECASE)
_LEAST_CHANGES = 0.4
"""Share of neighbours that differ in kind: 0.62 where letters and digits are random, that is
1 - (26² + 26² + 10²) / 62², and under 0.3 in names of words run together."""


def mask_secrets(text: str) -> tuple[str, int]:
    """Return the text with what looks like a key, token or password masked, and how often it was.

    It errs on the side of masking: long hexadecimal strings go as well, digests included.
    """
    count = 0

    def whole(_: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return MASK

    def value(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return match.group(1) + MASK

    def random_looking(match: re.Match[str]) -> str:
        return whole(match) if _is_random(match.group()) else match.group()

    for pattern in (_KNOWN, _ADDRESS):
        text = pattern.sub(whole, text)
    for pattern in (_NAMED, _BEARER):
        text = pattern.sub(value, text)
    text = _HEX.sub(whole, text)
    return _LONG.sub(random_looking, text), count


def _is_random(text: str) -> bool:
    kinds = [(c.isdigit(), c.isupper(), c.islower()) for c in text]
    changes = sum(one != other for one, other in pairwise(kinds))
    mixed = all(any(kind[place] for kind in kinds) for place in range(3))
    return mixed and changes / (len(text) - 1) >= _LEAST_CHANGES
