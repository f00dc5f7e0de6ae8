"""What looks like a secret is masked in text that is kept."""

from __future__ import annotations

import pytest

from phoenix.telemetry.redaction import MASK, mask_secrets

RANDOM = "q8Zr2LxT0vBn5KdW9sYh3MfC"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("use sk-proj-" + "a1B2c3D4e5F6g7H8i9 here", "a1B2c3D4e5F6g7H8i9"),
        ("ghp_" + "0123456789abcdefABCDEF0123456789abcd", "0123456789abcdef"),
        ("AKIA" + "IOSFODNN7EXAMPLE", "IOSFODNN7"),
        ("AIza" + "SyA1234567890abcdefghijklmnopq", "SyA1234567890"),
        ("eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIi"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "MIIEow"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow cut off", "MIIEow"),
        ("clone https://bot:hunter22@example.org/x.git", "hunter22"),
        ("DB_PASSWORD=correct-horse", "correct-horse"),
        ('"api_key": "short"', "short"),
        ("password: 'let me in'", "let me in"),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        (f"the value {RANDOM} worked", RANDOM),
        ("digest " + "0f" * 20, "0f" * 20),
    ],
)
def test_masks_what_looks_like_a_secret(text: str, secret: str) -> None:
    """Known forms, named values, credentials in addresses, and what looks random."""
    masked, count = mask_secrets(text)
    assert secret not in masked
    assert MASK in masked
    assert count >= 1


@pytest.mark.parametrize(
    "text",
    [
        "Write records that hold \\r with quoting=csv.QUOTE_ALL, and test with \\r\\n.",
        "def test_a_very_long_name_that_says_what_it_shows() -> None:",
        "The token bucket refills; if token == expected: return",
        "tests/acceptance/test_acceptance_record.py::TestExportRoundTripCase::test_9",
        "AbstractAsynchronousConnectionPoolFactoryBean2",
        "A password field needs a label. Secrets stay out of logs.",
        "https://example.org:8080/path",
    ],
)
def test_leaves_ordinary_text(text: str) -> None:
    """Names, code and prose stay as they are."""
    assert mask_secrets(text) == (text, 0)
