"""Steps that the tests of the algebra are made of."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.memory import InMemorySaver


@pytest.fixture
def saver() -> InMemorySaver:
    """Return a checkpointer that lives as long as the test."""
    return InMemorySaver()
