"""What secrets look like: forms of keys, and names of values that are secret."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

MASK = "[secret]"

PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
"""Private keys, also those that were cut off."""

UNMISTAKABLE = re.compile(
    r"""
    \bsk-(?=[\w-]*[0-9])(?=[\w-]*[A-Z])[\w-]{20,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|xox[a-z]-|ya29\.)(?=[\w.-]*[0-9A-Z])[\w.-]{16,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bAIza[A-Za-z0-9_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | \bphx_(?:key|refresh|local)_[A-Za-z0-9_-]{16,}
    | \bwhsec_[A-Za-z0-9+/=_-]{16,}
    """,
    re.VERBOSE,
)
"""Keys of providers, JSON web tokens, and Phoenix's own keys: nothing else looks like these."""

LIKELY = re.compile(
    r"""
    \b(?:sk|pk|rk)[-_](?:[A-Za-z0-9]+[-_])*[A-Za-z0-9_-]{16,}
    | \b(?:gh[pousr]_|github_pat_|glpat-|hf_|npm_|pypi-|xox[a-z]-|ya29\.)[A-Za-z0-9_.-]{10,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
    | \bAIza[A-Za-z0-9_-]{20,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?
    """,
    re.VERBOSE,
)
"""The same more widely: it takes names of code for keys now and then."""

ADDRESS = re.compile(r"(?<=://)[^/\s:@\"'<>]*:[^/\s@\"'<>]+(?=@)")
"""User and password of an address."""
USER = re.compile(r"://[^/@\s\"\\]+@")
"""What stands before the host of an address, with its signs around it."""
NAMED = re.compile(
    r"""(?ix)
    \b([\w-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|credential)s?["']?
       \s*(?:=(?!=)|:)\s*(?:bearer\s+)?)
    (?:"[^"\n]{4,}"|'[^'\n]{4,}'|[^\s"'`,;(){}\[\]]{8,})
    """
)
"""A value with its name before it."""
BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/-]{12,}=*")
LONG = re.compile(r"[A-Za-z0-9+_-]{24,}={0,2}")
HEX = re.compile(r"\b[0-9a-f]{32,}\b", re.IGNORECASE)
_LEAST_CHANGES = 0.4
"""Share of neighbours that differ in kind: 0.62 where letters and digits are random, that is
1 - (26² + 26² + 10²) / 62², and under 0.3 in names of words run together."""

_WORDS = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|authorization|api_?key|access_?key|private_?key|signing_?key"
    r"|cookie|credential|dsn|bearer"
)
_KEY = re.compile(rf"(?:^|_)(?:{_WORDS})s?(?:$|_)")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_VALUE = ("_details", "_file", "_path", "_hash", "_id", "_ids", "_url", "_until", "_type", "_name")
"""Ends of names whose values only say something about a secret."""


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Tell whether values of this name are secret: `api_key`, `X-Auth-Token`, `clientSecret`."""
    words = _CAPITAL.sub("_", name).replace("-", "_").replace(".", "_").lower()
    return bool(_KEY.search(words)) and not words.endswith(_NO_VALUE)


def is_random(text: str) -> bool:
    """Tell whether letters and digits of a text look drawn by chance."""
    kinds = [(c.isdigit(), c.isupper(), c.islower()) for c in text]
    changes = sum(one != other for one, other in pairwise(kinds))
    mixed = all(any(kind[place] for kind in kinds) for place in range(3))
    return mixed and changes / (len(text) - 1) >= _LEAST_CHANGES
