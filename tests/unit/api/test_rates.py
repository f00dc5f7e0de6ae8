"""Rates are written as people say them."""

from __future__ import annotations

import pytest

from phoenix.api.rates import read_limit
from phoenix.errors import SettingInvalid


def test_a_wrong_rate_is_refused() -> None:
    """The setting is named."""
    with pytest.raises(SettingInvalid, match="600/minute"):
        read_limit("many")
