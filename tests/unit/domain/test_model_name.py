"""What a model's name says of who answers."""

from __future__ import annotations

import pytest

from phoenix.cli.session import absolute_model
from phoenix.domain.model_name import behind_chaos


@pytest.mark.parametrize(
    ("name", "inner"),
    [
        ("openai:gpt-5.2", "openai:gpt-5.2"),
        ("chaos:0.3:openai:gpt-5.2", "openai:gpt-5.2"),
        ("chaos:0.3,seed=1:chaos:0.1:recorded:a:b", "recorded:a:b"),
        ("chaos:", "chaos:"),
    ],
)
def test_chaos_is_taken_off(name: str, inner: str) -> None:
    """However often it stands there."""
    assert behind_chaos(name) == inner


def test_a_recording_behind_chaos_has_its_whole_path() -> None:
    """The project may be resumed from another folder."""
    assert absolute_model("chaos:0.3,seed=1:recorded:/a/b") == "chaos:0.3,seed=1:recorded:/a/b"
    assert absolute_model("chaos:0.3:recorded:b").startswith("chaos:0.3:recorded:/")
