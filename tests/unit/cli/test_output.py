"""What commands print for programs."""

from __future__ import annotations

import json

import pytest

from phoenix.cli.output import print_json


def test_json_hides_the_credentials_of_addresses(capsys: pytest.CaptureFixture[str]) -> None:
    """A token in a repository's address is not printed; the address stays readable, and the line JSON."""
    value = {
        "repository": "https://bot:s3cret@example.org/a.git",
        "text": 'say "hi" to a@example.org at https://example.org/@you',
    }
    print_json(value)
    printed = json.loads(capsys.readouterr().out)
    assert printed == value | {"repository": "https://***@example.org/a.git"}
