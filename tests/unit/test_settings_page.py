"""docs/settings.md says what the code does."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from phoenix.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def maker() -> ModuleType:
    """What writes the page."""
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "manual" / "settings_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_in_step(maker: ModuleType) -> None:
    """It is what `python -m manual.settings_page` writes."""
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    assert maker.page(text) == text


def test_every_setting_is_a_row(maker: ModuleType) -> None:
    """Also one that is added later, which needs a docstring."""
    assert maker.table().count("\n") == len(Settings.model_fields) + 1
