"""Signatures are those of Standard Webhooks, and the example in the documentation verifies them."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phoenix.domain.webhook import body_of, secret_text, signature, signed_headers

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
SECRET, OLD = b"s" * 32, b"o" * 32
BODY = body_of({"type": "webhook_test", "timestamp": "2026-01-01T00:00:00+00:00", "data": {"ü": 1}})

Verify = Callable[..., str]


def example() -> Verify:
    """Return the example of the documentation."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)
    shown: Verify = names["verify"]
    return shown


@pytest.fixture
def verify() -> Verify:
    """Return the example of the documentation."""
    return example()


def test_a_signature_is_as_the_scheme_has_it() -> None:
    """The published example of the scheme: secret, id, time and body give this signature."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_documented_example_verifies(verify: Verify) -> None:
    """What is sent passes; with a rotation under way, under either secret."""
    headers = signed_headers([SECRET, OLD], "id-1", int(time.time()), BODY)
    for secret in (SECRET, OLD):
        assert verify(secret_text(secret), headers, BODY) == "id-1"


def test_the_documented_example_refuses(verify: Verify) -> None:
    """Another body, id, time, secret or version of the scheme, and what is too old."""
    now = int(time.time())
    headers = signed_headers([SECRET], "id-1", now, BODY)
    given = secret_text(SECRET)
    for wrong in (
        {"webhook-id": "id-2"},
        {"webhook-timestamp": str(now + 1)},
        {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": "v1,"},
    ):
        with pytest.raises(ValueError, match="not signed"):
            verify(given, headers | wrong, BODY)
    with pytest.raises(ValueError, match="not signed"):
        verify(given, headers, BODY + b" ")
    with pytest.raises(ValueError, match="not signed"):
        verify(secret_text(OLD), headers, BODY)
    with pytest.raises(ValueError, match="too old"):
        verify(given, signed_headers([SECRET], "id-1", now - 301, BODY), BODY)


def test_the_same_payload_is_the_same_bytes() -> None:
    """Whatever order its keys come in: a retry signs what was signed before."""
    assert body_of({"b": 1, "a": {"d": 1, "c": 2}}) == body_of({"a": {"c": 2, "d": 1}, "b": 1})
