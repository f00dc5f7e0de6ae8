"""A project without a model."""

from __future__ import annotations

from typing import cast

import pytest

from phoenix.domain.frozen import Frozen
from phoenix.errors import NoModel
from phoenix.llm.models import MissingModels
from phoenix.ports import Caller, UsageLog


async def test_only_a_call_says_that_there_is_no_model() -> None:
    """Whoever asks is named, with the ways to give one."""
    models = MissingModels(cast("UsageLog", None))
    with pytest.raises(NoModel, match="triage asks a model"):
        models.chat(Caller("triage"))
    with pytest.raises(NoModel) as raised:
        await models.structured(Caller("triage"), [], Frozen)
    assert "OPENAI_API_KEY" in raised.value.hint
