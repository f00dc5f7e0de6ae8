"""Finding a model, and opening any provider's."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.messages.ai import UsageMetadata
from pydantic import SecretStr

from phoenix.errors import ModelRefusedKey, ModelUnavailable, ModelUnknown, NoModel
from phoenix.llm import providers
from phoenix.llm.prices import Prices
from phoenix.llm.providers import DEFAULT_MODEL, check_model, find_model, open_provider
from phoenix.settings import Settings
from tests.unit.llm.server import Server

NOWHERE = "http://127.0.0.1:9"


def given(tmp_path: Path, *, model: str = "", key: str | None = None, url: str | None = None) -> Settings:
    """Return settings that hold just this."""
    return Settings(
        home=tmp_path, model=model, openai_api_key=SecretStr(key) if key else None, openai_base_url=url
    )


async def test_a_named_model_wins(tmp_path: Path) -> None:
    """Nothing is asked when the model is named."""
    settings = given(tmp_path, model="anthropic:claude-x", key="k", url=NOWHERE)
    assert await find_model(settings, ollama_url=NOWHERE) == "anthropic:claude-x"


async def test_a_key_alone_means_the_default(tmp_path: Path) -> None:
    """OPENAI_API_KEY is enough."""
    assert await find_model(given(tmp_path, key="k"), ollama_url=NOWHERE) == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (["text-embedding-3", "qwen", "llama"], "openai:qwen"),
        (["qwen", DEFAULT_MODEL.removeprefix("openai:")], DEFAULT_MODEL),
    ],
)
async def test_a_base_url_is_asked_for_its_models(
    served: list[str], expected: str, server: Server, tmp_path: Path
) -> None:
    """The first chat model that it lists is used, the default when it has that."""
    server.models = served
    assert await find_model(given(tmp_path, url=f"{server.url}/v1"), ollama_url=NOWHERE) == expected


async def test_a_dead_base_url_is_an_error(tmp_path: Path) -> None:
    """A server that was named is not silently passed over."""
    with pytest.raises(ModelUnavailable, match=NOWHERE):
        await find_model(given(tmp_path, key="k", url=NOWHERE), ollama_url=NOWHERE)


async def test_ollama_is_found_by_itself(server: Server, tmp_path: Path) -> None:
    """A local Ollama's first chat model is used."""
    server.models = ["nomic-embed-text:latest", "llama3.2:latest"]
    assert await find_model(given(tmp_path), ollama_url=server.url) == "ollama:llama3.2:latest"


async def test_no_model_names_the_three_ways_and_the_demo(tmp_path: Path) -> None:
    """The message is all that a newcomer needs."""
    with pytest.raises(NoModel) as caught:
        await find_model(given(tmp_path), ollama_url=NOWHERE)
    for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "Ollama", "make demo"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt", "provider:model"),
        ("openai:", "provider:model"),
        ("nobody:model", "no provider 'nobody'"),
        ("google_genai:gemini-x", r"phoenix-engine\[google\]"),
        ("groq:x", "langchain-groq"),
    ],
)
def test_an_unknown_model_fails_at_start(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad names, unknown providers and missing packages are told apart."""
    monkeypatch.setitem(sys.modules, "langchain_google_genai", None)
    with pytest.raises(ModelUnknown, match=said):
        open_provider(given(tmp_path, key="k"), name)


def test_openai_without_a_key_is_no_model(tmp_path: Path) -> None:
    """The missing variable is named."""
    with pytest.raises(NoModel, match="OPENAI_API_KEY"):
        open_provider(given(tmp_path), "openai:gpt-5.2")


async def test_a_provider_that_lists_its_models_is_believed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown name is refused with a near one."""
    monkeypatch.setattr(providers, "OLLAMA_URL", server.url)
    server.models = ["llama3.2:latest"]
    await check_model(given(tmp_path), "ollama:llama3.2")
    with pytest.raises(ModelUnknown, match=r"Did you mean llama3\.2:latest"):
        await check_model(given(tmp_path), "ollama:llama32")


@pytest.mark.parametrize("models", [None, ["other"]])
async def test_a_server_of_ones_own_may_list_what_it_likes(
    models: list[str] | None, server: Server, tmp_path: Path
) -> None:
    """A base URL without a list, or with another one, is used as it is."""
    server.models = models
    await check_model(given(tmp_path, url=f"{server.url}/v1"), "openai:mine")


async def test_a_refused_key_is_seen_before_the_run(server: Server, tmp_path: Path) -> None:
    """The check costs no tokens and names the variable."""
    server.refuse = True
    with pytest.raises(ModelRefusedKey, match="OPENAI_API_KEY"):
        await check_model(given(tmp_path, key="k", url=f"{server.url}/v1"), "openai:mine")


def usage(read: int, written: int, cached: int = 0) -> UsageMetadata:
    """Return token counts as LangChain gives them."""
    return UsageMetadata(
        input_tokens=read,
        output_tokens=written,
        total_tokens=read + written,
        input_token_details={"cache_read": cached},
    )


def test_prices_are_exact() -> None:
    """A million tokens each way at the listed price, with and without the cache's discount."""
    assert Prices().cost("openai:gpt-4o-mini", usage(1_000_000, 1_000_000)) == Decimal("0.75")
    assert Prices().cost("openai:gpt-4o-mini", usage(1_000_000, 0, cached=1_000_000)) == Decimal("0.075")


@pytest.mark.parametrize(
    ("name", "url", "cost"),
    [
        ("openai:no-such-model", None, None),
        ("openai:gpt-4o-mini", "http://127.0.0.1:1/v1", None),
        ("groq:unheard-of", None, None),
        ("ollama:llama3.2", None, Decimal(0)),
    ],
)
def test_an_unknown_price_is_unknown(name: str, url: str | None, cost: Decimal | None) -> None:
    """Nothing is guessed; a local model costs nothing."""
    assert Prices().cost(name, usage(10, 10), base_url=url) == cost


def test_no_provider_is_imported_before_it_is_used() -> None:
    """Importing the room loads no client: each takes seconds."""
    heavy = "('langchain_openai', 'openai', 'langchain')"
    code = f"import sys, phoenix.llm.models; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.stdout.strip() == "[]"
