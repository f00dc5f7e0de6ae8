"""Fixtures of the model gateway's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from phoenix.domain.budget import Budget
from phoenix.llm.budget import MemoryBudgets
from phoenix.llm.calls import Backend
from phoenix.llm.models import ProjectModels
from phoenix.llm.patience import Patience
from phoenix.llm.providers import ProviderModel, open_provider
from phoenix.llm.recording import Recorder
from phoenix.llm.usage import MemoryUsage
from phoenix.settings import Settings
from tests.unit.llm.rig import KEY, SWIFT, Heard, Open
from tests.unit.llm.server import Server, serving


@pytest.fixture
def events() -> Heard:
    """An event log in a list."""
    return Heard()


@pytest.fixture
def usage() -> MemoryUsage:
    """A usage log in memory."""
    return MemoryUsage()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An OpenAI-compatible server on a free port."""
    async with serving() as running:
        yield running


@pytest.fixture
def settings(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """Settings that point at the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    return Settings(home=tmp_path, openai_api_key=SecretStr(KEY), openai_base_url=f"{server.url}/v1")


@pytest.fixture
def open_over(usage: MemoryUsage, events: Heard) -> Open:
    """Opens models over a backend."""

    def over(
        backend: Backend,
        *,
        budget: str | None = None,
        patience: Patience = SWIFT,
        record: Path | None = None,
    ) -> ProjectModels:
        recorder = Recorder(record, model=backend.name) if record else None
        budgets = MemoryBudgets(usage, Budget(usd=Decimal(budget))) if budget else None
        return ProjectModels(
            backend, usage=usage, events=events, budgets=budgets, recorder=recorder, patience=patience
        )

    return over


@pytest.fixture
def provider(settings: Settings) -> ProviderModel:
    """The real OpenAI client, pointed at the server."""
    return open_provider(settings, "openai:test")
