"""What `phoenix models` says of each alias: model, price, limits, key, and whether its provider answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from langchain_core.messages.ai import UsageMetadata

from phoenix.domain.listed import Listed
from phoenix.errors import PhoenixError
from phoenix.llm.access import has_key, key_name, key_of, open_alias
from phoenix.llm.catalogue import SETTING, Catalogue, Entry, Price
from phoenix.llm.models import prices_of
from phoenix.llm.prices import Prices
from phoenix.llm.providers import OLLAMA_URL, check_listed, served
from phoenix.settings import Settings

MILLION = 1_000_000
LISTS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "google_genai": "https://generativelanguage.googleapis.com/v1beta/openai",
    "ollama": OLLAMA_URL,
}
"""Where providers list their models in OpenAI's form."""


async def list_models(catalogue: Catalogue, settings: Settings, *, check: bool = False) -> Sequence[Listed]:
    """Return the aliases in the order of the file; with `check` each is opened and its provider asked."""
    return await asyncio.gather(
        *(_listed(catalogue, alias, settings, check=check) for alias in catalogue.models)
    )


async def _listed(catalogue: Catalogue, alias: str, settings: Settings, *, check: bool) -> Listed:
    entry = catalogue.models[alias]
    ladder = list(catalogue.ladder())
    price, price_from = price_of(entry, prices_of(settings))
    return Listed(
        alias=alias,
        model=entry.model,
        base_url=entry.base_url,
        tier=ladder.index(alias) + 1 if alias in ladder else None,
        fallbacks=entry.fallbacks,
        input_usd=price.input if price else None,
        output_usd=price.output if price else None,
        price_from=price_from,
        requests_per_minute=entry.limits.requests_per_minute,
        tokens_per_minute=entry.limits.tokens_per_minute,
        concurrency=entry.limits.concurrency,
        output_tokens=entry.limits.output_tokens,
        context_tokens=entry.context_tokens,
        capabilities=sorted(entry.capabilities),
        key=key_name(entry),
        has_key=has_key(entry, settings),
        problem=await _problem(alias, entry, settings) if check else "",
    )


def price_of(entry: Entry, prices: Prices) -> tuple[Price | None, str]:
    """Return what an alias costs and where that is from."""
    if entry.price is not None:
        return entry.price, "catalogue"
    read = prices.cost(entry.model, _tokens(MILLION, 0), base_url=entry.base_url)
    written = prices.cost(entry.model, _tokens(0, MILLION), base_url=entry.base_url)
    if read is None or written is None:
        return None, ""
    return Price(input=read, output=written), "table"


def _tokens(read: int, written: int) -> UsageMetadata:
    return UsageMetadata(input_tokens=read, output_tokens=written, total_tokens=read + written)


async def _problem(alias: str, entry: Entry, settings: Settings) -> str:
    """Return what is wrong with an alias: its package, its key, its server or its model's name."""
    try:
        await asyncio.to_thread(open_alias, alias, entry, settings)
        await _ask(alias, entry, key_of(entry, settings))
    except PhoenixError as error:
        return error.message
    return ""


async def _ask(alias: str, entry: Entry, key: str) -> None:
    """Ask a provider for its models, which costs nothing; one that has no list is not asked."""
    provider, _, model = entry.model.partition(":")
    url = entry.base_url or LISTS.get(provider)
    if url is None or provider not in LISTS:
        return
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01"} if provider == "anthropic" else None
    if provider in ("anthropic", "ollama"):
        url = f"{url.rstrip('/').removesuffix('/v1')}/v1"
    names = await served(
        url, key, key_name=key_name(entry) or SETTING, url_name=f"models.{alias}.base_url", headers=headers
    )
    # Others accept names that they do not list.
    if provider == "ollama" or (provider == "openai" and entry.base_url is None):
        check_listed(provider, model, names)
