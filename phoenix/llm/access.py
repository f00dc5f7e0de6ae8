"""Aliases opened: their keys, their provider's client, and one neutral form of request for all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from langchain_core.messages import HumanMessage
from pydantic import SecretStr

from phoenix.configuration.live import parse_reference
from phoenix.errors import NoModel, SettingInvalid
from phoenix.llm.calls import Backend, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.catalogue import SETTING, Catalogue, Entry
from phoenix.llm.models import prices_of
from phoenix.llm.patience import patience_of
from phoenix.llm.prices import Prices
from phoenix.llm.providers import OLLAMA_URL, ProviderModel, open_chat
from phoenix.llm.schema import schema_text
from phoenix.llm.traffic import endpoint_of
from phoenix.settings import Settings
from phoenix.telemetry.redaction import know

KEYS = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "google_genai": "GOOGLE_API_KEY",
}
"""Variables that hold the keys of providers, where an alias names no other."""

OUTPUT_TOKENS = {"google_genai": "max_output_tokens"}
"""What a provider's client calls the limit of an answer, where it is not `max_tokens`."""


def key_name(entry: Entry) -> str:
    """Return where an alias's key comes from: a variable or a file; empty where it needs none."""
    if entry.key_file is not None:
        return str(entry.key_file)
    if entry.key_env is not None:
        return entry.key_env
    # A server of one's own that imitates OpenAI seldom asks for a key.
    is_open = entry.provider == "openai" and entry.base_url is not None
    return "" if is_open else KEYS.get(entry.provider, "")


def key_of(entry: Entry, settings: Settings) -> str:
    """Return an alias's key; empty where it is missing or none is needed."""
    if entry.key_file is not None:
        try:
            key = entry.key_file.expanduser().read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        know(key)
        return key
    name = key_name(entry)
    set_here = provider_key(settings, name)
    if set_here is not None:
        return set_here.get_secret_value()
    text = os.environ.get(name, "") if name else ""
    if parse_reference(text, said=name) is not None:
        raise SettingInvalid(
            "only a setting may refer to a store; this variable is none.",
            field=name,
            hint="Give the alias a key_file, or let it use its provider's own key.",
        )
    know(text)
    return text


def provider_key(settings: Settings, name: str) -> SecretStr | None:
    """Return the key of a provider that is a setting, by its variable's name."""
    return {
        "OPENAI_API_KEY": settings.openai_api_key,
        "ANTHROPIC_API_KEY": settings.anthropic_api_key,
        "GOOGLE_API_KEY": settings.google_api_key,
    }.get(name)


def has_key(entry: Entry, settings: Settings) -> bool:
    """Tell whether an alias has the key that it needs."""
    return not key_name(entry) or bool(key_of(entry, settings))


def require_keys(catalogue: Catalogue, settings: Settings) -> None:
    """Check that every alias that a tier leads to has its key.

    Raises:
        SettingInvalid: one has none; names alias and variable or file.
    """
    used = catalogue.used()
    for alias, entry in catalogue.models.items():
        if alias in used and not has_key(entry, settings):
            raise SettingInvalid(
                f"The model alias {alias} ({entry.model}) needs {key_name(entry)}.",
                field=SETTING,
                hint=f"Set {key_name(entry)}, or take {alias} out of tiers and fallbacks.",
            )


def open_alias(alias: str, entry: Entry, settings: Settings) -> Backend:
    """Return the backend of an alias. Imports the provider's package (seconds, once).

    Raises:
        ModelUnknown: no such provider, or its package is not installed.
        NoModel: its key is missing.
    """
    key = key_of(entry, settings)
    if not key and key_name(entry):
        raise NoModel(f"The model alias {alias} needs {key_name(entry)}.", field=key_name(entry))
    provider, _, model = entry.model.partition(":")
    options: dict[str, Any] = {}
    if key:
        options["api_key"] = key
    if entry.base_url is not None:
        options["base_url"] = entry.base_url
    if provider == "ollama":
        # Through its OpenAI-compatible endpoint, which needs no package of its own.
        url = (entry.base_url or OLLAMA_URL).rstrip("/").removesuffix("/v1")
        options |= {"base_url": f"{url}/v1", "api_key": key or "ollama"}
    if provider == "openai" and entry.base_url is not None:
        options = {"api_key": "none", **options, "use_responses_api": False}
    waits = patience_of(settings)
    if provider in KEYS or provider == "ollama":
        options |= {"max_retries": 0, "timeout": waits.answer_seconds}
    if provider in ("openai", "ollama"):
        # The gateway's deadlines take the place of the client's own.
        options |= {"stream_usage": True, "stream_chunk_timeout": None}
    if entry.limits.output_tokens is not None:
        options[OUTPUT_TOKENS.get(provider, "max_tokens")] = entry.limits.output_tokens
    chat = open_chat("openai" if provider == "ollama" else provider, model, options)
    inner = ProviderModel(
        entry.model,
        chat,
        base_url=entry.base_url,
        secret=key,
        idle_seconds=waits.idle_seconds,
        prices=prices_of(settings),
    )
    inner.marks_prefixes = inner.marks_prefixes and "prompt_cache" in entry.capabilities
    return AliasModel(inner, entry)


class Aliases:
    """The aliases of a catalogue, each opened when it is first asked.

    Args:
        catalogue: The catalogue.
        settings: Hold the keys that are settings.
        given: What answers for a `provider:model` instead of its provider.
    """

    def __init__(self, catalogue: Catalogue, settings: Settings, given: Mapping[str, Backend]) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._given = given
        self._opened: dict[str, Backend] = {}
        self._keys: dict[str, str] = {}

    def open(self, alias: str) -> Backend:
        """Return the backend of an alias.

        Raises:
            ModelUnknown, NoModel: as `open_alias`.
        """
        entry = self._catalogue.models[alias]
        given = self._given.get(entry.model)
        key = "" if given is not None else key_of(entry, self._settings)
        # A key that was renewed opens the alias anew.
        if alias not in self._opened or self._keys[alias] != key:
            opened = open_alias(alias, entry, self._settings) if given is None else AliasModel(given, entry)
            self._opened[alias], self._keys[alias] = opened, key
        return self._opened[alias]


class AliasModel:
    """An alias of the catalogue: what its model cannot do is asked for by what it can."""

    recorded = False

    def __init__(self, inner: Backend, entry: Entry) -> None:
        self.name = entry.model
        self.endpoint = endpoint_of(inner)
        self.entry = entry
        self.output_tokens = entry.limits.output_tokens or inner.output_tokens
        self.output_option = inner.output_option
        self._prices = None if entry.price is None else Prices({entry.model: entry.price.as_price})
        self._inner = inner

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return self._inner.tool_options(tools, **choices) if "tools" in self.entry.capabilities else {}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return self._inner.schema_options(schema) if "schema" in self.entry.capabilities else None

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        if self._prices is None:
            return self._inner.most_usd(input_tokens, output_tokens)
        return self._prices.most(self.name, input_tokens, output_tokens)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        answer = await self._inner.answer(self._in_words(request))
        usage = answer.message.usage_metadata
        if self._prices is None or usage is None:
            return answer
        return replace(answer, cost_usd=self._prices.cost(self.name, usage))

    def _in_words(self, request: ModelRequest) -> ModelRequest:
        """Return a request with its schema in its messages, where the model takes no other form."""
        shape, can = request.shape, self.entry.capabilities
        if (
            shape is None
            or request.tier == "text"
            or "tools" in can
            or (request.tier == "schema" and "schema" in can)
        ):
            return request
        said = HumanMessage(schema_text(json.dumps(shape.parameters, ensure_ascii=False)))
        return replace(request, messages=[*request.messages, said])
