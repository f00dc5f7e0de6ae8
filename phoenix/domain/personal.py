"""Find what tells who somebody is in text that is kept for other projects."""

from __future__ import annotations

import re

MASK = "[personal]"

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_PHONE = re.compile(
    r"(?<![\w.:/-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)|\d{2,5})(?:[ .-]\d{2,8}){1,5}(?![\w:/-])"
)
_INTERNATIONAL = re.compile(r"(?<![\w+])\+\d{8,15}(?!\w)")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CARD = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}(?![\w-])")
_EXAMPLES = re.compile(r"@(?:[\w-]+\.)*example(?:\.(?:com|org|net))?$", re.IGNORECASE)
LEAST_PHONE_DIGITS = 8


def mask_personal(text: str) -> tuple[str, int]:
    """Return the text with e-mail addresses, telephone, card and account numbers masked, and how many were.

    Addresses under example.org and the like, dates and version numbers stay. Names of people are not found.
    """
    count = 0

    def mask(match: re.Match[str]) -> str:
        nonlocal count
        if not _is_personal(match.group()):
            return match.group()
        count += 1
        return MASK

    for pattern in (_EMAIL, _IBAN, _CARD, _INTERNATIONAL, _PHONE):
        text = pattern.sub(mask, text)
    return text, count


def _is_personal(found: str) -> bool:
    """Tell apart what only looks like an address or a number of somebody."""
    if "@" in found:
        return _EXAMPLES.search(found) is None
    if found[0].isalpha():
        return True
    digits = [int(c) for c in found if c.isdigit()]
    if _CARD.fullmatch(found) and _sums_up(digits):
        return True
    if len(set(digits)) == 1:
        return False
    if found.startswith("+"):
        return True
    # Versions and addresses of machines have dots; sequences of numbers without a leading zero are none.
    return (
        found[0] in "0(" and "." not in found and len(digits) >= LEAST_PHONE_DIGITS and not _DATE.match(found)
    )


def _sums_up(digits: list[int]) -> bool:
    """Tell whether the last digit is the check digit of the others (Luhn, ISO/IEC 7812-1)."""
    total = sum(
        d if place % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for place, d in enumerate(digits[::-1])
    )
    return total % 10 == 0 and len(set(digits)) > 1
