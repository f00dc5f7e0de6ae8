"""Providers: which model to use when none is named, and a backend for any `provider:model`."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import httpx
from langchain_core.exceptions import LangChainException
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableBinding, RunnableSequence

from phoenix.errors import ModelRefusedKey, ModelUnavailable, ModelUnknown, NoModel
from phoenix.llm.calls import ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed, translate
from phoenix.llm.prices import cost_of
from phoenix.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

DEFAULT_MODEL = "openai:gpt-5.2"
"""Used when only a key is given; PHOENIX_MODEL or --model name another."""

OLLAMA_URL = "http://127.0.0.1:11434"
EXTRAS = {
    "anthropic": "anthropic",
    "google_genai": "google",
    "google_vertexai": "google",
}
"""Providers whose package is an extra of Phoenix."""

TAKES_CLIENT_LIMITS = frozenset({"openai", "anthropic", "google_genai"})
"""Providers whose chat model takes `max_retries` and `timeout`: retries are the gateway's."""

CLIENT_ERRORS = ("openai:OpenAIError", "anthropic:AnthropicError", "google.genai.errors:APIError")
NOT_CHAT = ("embed", "whisper", "tts", "dall-e", "image", "moderation", "rerank")
PROBE_SECONDS = 5.0
LOCAL_PROBE_SECONDS = 0.5

THREE_WAYS = (
    "Give one of: OPENAI_API_KEY; OPENAI_BASE_URL of any OpenAI-compatible server; "
    "Ollama running on localhost. Or see a recorded run first: `make demo`."
)


async def find_model(settings: Settings, *, ollama_url: str = OLLAMA_URL) -> str:
    """Return the `provider:model` to use: the one named, by base URL, by key, else from Ollama.

    A base URL is asked for its models even when there is a key: a server that imitates OpenAI wants any
    key, and has other models.

    Raises:
        NoModel: there is none; the hint names the three ways to give one.
        ModelUnavailable: OPENAI_BASE_URL is set but does not answer.
    """
    if settings.model:
        return settings.model
    if settings.openai_base_url:
        names = await _served(settings.openai_base_url, _key(settings))
        default = DEFAULT_MODEL.removeprefix("openai:")
        chats = [n for n in names if not any(word in n for word in NOT_CHAT)]
        if chats:
            return f"openai:{default if default in chats else chats[0]}"
        if not settings.openai_api_key:
            where = _shown(settings.openai_base_url)
            raise NoModel(f"{where} serves no model.", hint="Name one with --model.")
    if settings.openai_api_key:
        return DEFAULT_MODEL
    local = await _ollama_models(ollama_url)
    if local:
        return f"ollama:{local[0]}"
    raise NoModel("No model is configured.", hint=THREE_WAYS)


async def check_model(settings: Settings, name: str) -> None:
    """Check that a provider takes the key and knows the model, where it tells; it costs nothing.

    Raises:
        ModelUnknown: it does not know the model.
        ModelRefusedKey: it refuses the key.
        ModelUnavailable: it cannot be reached.
    """
    provider, _, model = name.partition(":")
    if provider == "openai":
        names = await _served(settings.openai_base_url or "https://api.openai.com/v1", _key(settings))
        exhaustive = settings.openai_base_url is None
    elif provider == "ollama":
        names, exhaustive = await _served(f"{OLLAMA_URL}/v1", "ollama"), True
    else:
        return
    if exhaustive and names and not {model, f"{model}:latest"} & set(names):
        near = difflib.get_close_matches(model, names, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "Check the model's name."
        raise ModelUnknown(f"{provider} has no model {model!r}.", hint=hint, field="model")


def _key(settings: Settings) -> str:
    return settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""


def _shown(url: str) -> str:
    """Return an address without the name and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", url)


async def _served(base_url: str, key: str) -> list[str]:
    """Return the models that an OpenAI-compatible server lists; none when it keeps no list."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=PROBE_SECONDS) as client:
            response = await client.get(base_url.rstrip("/") + "/models", headers=headers)
            if response.status_code in (401, 403):
                raise ModelRefusedKey(f"{_shown(base_url)} refuses the key.", hint="Check OPENAI_API_KEY.")
            rows = response.json()["data"] if response.is_success else []
            return [str(row["id"]) for row in rows]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = "Check OPENAI_BASE_URL and the network."
        raise ModelUnavailable(f"No model server answers at {_shown(base_url)}.", hint=hint) from error
    except (ValueError, KeyError, TypeError):
        return []


async def _ollama_models(url: str) -> list[str]:
    """Return the chat models of a local Ollama; none when it does not run."""
    try:
        async with httpx.AsyncClient(timeout=LOCAL_PROBE_SECONDS, trust_env=False) as client:
            response = await client.get(f"{url}/api/tags")
            names = [str(row["name"]) for row in response.json()["models"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if not any(word in name for word in NOT_CHAT)]


def open_provider(settings: Settings, name: str, *, timeout_seconds: float = 600.0) -> ProviderModel:
    """Return the backend for a `provider:model`. Imports the provider's package (seconds, once).

    Raises:
        ModelUnknown: no such provider, or its package is not installed.
        NoModel: the provider's key is missing.
    """
    provider, colon, model = name.partition(":")
    if not colon or not model:
        hint = f"Write it as provider:model, such as {DEFAULT_MODEL}."
        raise ModelUnknown(f"{name!r} names no model.", hint=hint, field="model")
    options: dict[str, Any] = {}
    base_url = None
    if provider in TAKES_CLIENT_LIMITS:
        options |= {"max_retries": 0, "timeout": timeout_seconds}
    if provider == "openai":
        base_url = settings.openai_base_url
        options |= _openai_options(settings, name)
    if provider == "ollama":
        options |= {
            "base_url": f"{OLLAMA_URL}/v1",
            "api_key": "ollama",
            "max_retries": 0,
            "timeout": timeout_seconds,
        }
    chat = _init("openai" if provider == "ollama" else provider, model, options)
    return ProviderModel(name, chat, base_url=base_url, secret=_key(settings))


def _openai_options(settings: Settings, name: str) -> dict[str, Any]:
    key = _key(settings)
    if not key and not settings.openai_base_url:
        raise NoModel(f"{name} needs OPENAI_API_KEY.", hint=THREE_WAYS, field="OPENAI_API_KEY")
    options: dict[str, Any] = {"api_key": key or "none"}
    if settings.openai_base_url:
        # Servers that imitate OpenAI have chat completions, seldom the newer responses endpoint.
        options |= {"base_url": settings.openai_base_url, "use_responses_api": False}
    return options


def _init(provider: str, model: str, options: dict[str, Any]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    try:
        return cast("BaseChatModel", init_chat_model(model, model_provider=provider, **options))
    except ImportError as error:
        extra = EXTRAS.get(provider)
        package = error.name or provider
        hint = (
            f"Install it: pip install 'phoenix-engine[{extra}]'."
            if extra
            else f"Install its package: {error}"
        )
        raise ModelUnknown(
            f"The package of provider {provider} ({package}) is missing.", hint=hint, field="model"
        ) from error
    except ValueError as error:
        if "Unsupported provider" in str(error):
            hint = f"Known are openai, ollama, {', '.join(sorted(EXTRAS))} and others of LangChain."
            raise ModelUnknown(f"There is no provider {provider!r}.", hint=hint, field="model") from error
        raise NoModel(f"{provider}:{model} is not configured: {_first_line(error)}", field="model") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


class ProviderModel:
    """Answers through a provider's LangChain chat model."""

    recorded = False

    def __init__(
        self, name: str, chat: BaseChatModel, *, base_url: str | None = None, secret: str = ""
    ) -> None:
        self.name = name
        self._chat = chat
        self._base_url = base_url
        self._secret = secret
        self._failures = _client_errors()
        # LangChain warns of a schema mode that the server refuses; the tool tier is the answer to it.
        for text in (
            "This model does not support OpenAI's structured",
            "Invalid schema for OpenAI's structured",
        ):
            warnings.filterwarnings("ignore", message=text)

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        bound = cast("RunnableBinding[Any, Any]", self._chat.bind_tools(list(tools), **choices))
        return dict(bound.kwargs)

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        if type(self._chat).__name__ == "ChatOpenAI":
            form = {"name": schema.name, "schema": schema.parameters, "strict": schema.strict}
            return {"response_format": {"type": "json_schema", "json_schema": form}}
        return self._foreign_schema_options(schema)

    def _foreign_schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        """Return what LangChain would bind for another provider's schema mode."""
        titled = {"title": schema.name, "description": schema.description, **schema.parameters}
        try:
            chain = self._chat.with_structured_output(titled, method="json_schema")
        except (NotImplementedError, ValueError, TypeError):
            return None
        first = chain.first if isinstance(chain, RunnableSequence) else None
        if not isinstance(first, RunnableBinding):
            return None
        return {k: v for k, v in first.kwargs.items() if k != "ls_structured_output_format"}

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        try:
            result = await self._chat._agenerate(list(request.messages), stop=request.stop, **request.options)
        except self._failures as error:
            # A cause is printed with every traceback: one that quotes the key must not be kept.
            quoted = bool(self._secret) and self._secret in str(error)
            raise translate(error, self.name, secret=self._secret) from (None if quoted else error)
        if not result.generations:
            raise CallFailed(ModelUnavailable(f"{self.name} gave no answer."), again=True)
        generation = result.generations[0]
        message = generation.message
        if not isinstance(message, AIMessage):
            raise CallFailed(ModelUnavailable(f"{self.name} did not answer as an assistant."), again=True)
        about = {**message.response_metadata, **(generation.generation_info or {})}
        finish = about.get("finish_reason") or about.get("stop_reason") or about.get("status") or ""
        cost = cost_of(self.name, message.usage_metadata, base_url=self._base_url)
        return ModelAnswer(message, self.name, cost, str(finish))


def _client_errors() -> tuple[type[Exception], ...]:
    """Return what the loaded clients raise, and what LangChain raises for an answer of the wrong form."""
    errors: list[type[Exception]] = [LangChainException, httpx.HTTPError, OSError]
    errors += [ValueError, KeyError, TypeError]
    for where in CLIENT_ERRORS:
        module, _, name = where.partition(":")
        if module in sys.modules:
            errors.append(getattr(sys.modules[module], name))
    return tuple(errors)
