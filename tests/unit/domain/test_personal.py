"""What tells who somebody is does not get into what other projects read."""

from __future__ import annotations

import pytest

from phoenix.domain.personal import MASK, mask_personal


@pytest.mark.parametrize(
    "personal",
    [
        "ada.lovelace@analytical.engine.uk",
        "+49 30 901820",
        "+4930901820",
        "(030) 901 820 11",
        "0171-2345678",
        "DE89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "4111 1111 1111 1111",
        "5500005555555559",
    ],
)
def test_addresses_and_numbers_of_people_are_masked(personal: str) -> None:
    """Each of them, in the midst of a sentence."""
    text, count = mask_personal(f"Ask {personal} about it.")
    assert (text, count) == (f"Ask {MASK} about it.", 1)


@pytest.mark.parametrize(
    "harmless",
    [
        "user@example.org signs up",
        "released on 2026-02-03",
        "python 3.11.7 on 127.0.0.1:8400",
        "030 / 9018 is too short to tell",
        "the lines 100 200 300 400 500",
        "1234567890123456 has no check digit",
        "git commit e89b6e2e030b1798327c224b4e40fc0b744b6291",
        "add(2, 2) == 4",
        "decorated with @pytest.fixture",
        "SELECT 1 FROM t WHERE a = 0.25",
        "0000 0000 0000 0000 is all zeros",
    ],
)
def test_what_only_looks_like_it_stays(harmless: str) -> None:
    """A memory that is full of holes is worth nothing."""
    assert mask_personal(harmless) == (harmless, 0)
