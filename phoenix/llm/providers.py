"""Providers: which model to use when none is named, and a backend for any `provider:model`."""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import httpx
import structlog
from langchain_core.exceptions import LangChainException
from langchain_core.messages import AIMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableBinding, RunnableSequence

from phoenix.errors import ModelRefusedKey, ModelUnavailable, ModelUnknown, NoModel
from phoenix.llm.calls import OUTPUT_TOKENS, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import Billed, CallFailed, broken_off, fell_silent, translate
from phoenix.llm.patience import Patience
from phoenix.llm.prefix import marked
from phoenix.llm.prices import Prices
from phoenix.llm.streaming import StreamBroken, Streamed, StreamIdle, gather, reason_in
from phoenix.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

log = structlog.get_logger(__name__)

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

CLIENT_ERRORS = (
    "openai:OpenAIError",
    "anthropic:AnthropicError",
    "google.genai.errors:APIError",
    # What the clients are built on; within a stream its errors pass through them.
    "httpx2:HTTPError",
    # What Google's is built on where it is installed.
    "aiohttp:ClientError",
)
GOOGLE = ("google_genai:", "google_vertexai:")
NOT_CHAT = ("embed", "whisper", "tts", "dall-e", "image", "moderation", "rerank")
MOST_MISSES = 2
"""A server whose first streams bring no whole answer, one after the other, is not asked for streams again:
it sends one piece all the same, or no usage, or no reason for the end."""
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
        names = await served(settings.openai_base_url, _key(settings))
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
        names = await served(settings.openai_base_url or "https://api.openai.com/v1", _key(settings))
        exhaustive = settings.openai_base_url is None
    elif provider == "ollama":
        names, exhaustive = await served(f"{OLLAMA_URL}/v1", "ollama"), True
    else:
        return
    if exhaustive:
        check_listed(provider, model, names)


def check_listed(provider: str, model: str, names: Sequence[str]) -> None:
    """Check that a provider that lists all its models has one; an empty list says nothing.

    Raises:
        ModelUnknown: it does not have it.
    """
    if names and not {model, f"{model}:latest"} & set(names):
        near = difflib.get_close_matches(model, names, n=3)
        hint = f"Did you mean {', '.join(near)}?" if near else "Check the model's name."
        raise ModelUnknown(f"{provider} has no model {model!r}.", hint=hint, field="model")


def _key(settings: Settings) -> str:
    return settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""


def _shown(url: str) -> str:
    """Return an address without the name and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//", url)


async def served(
    base_url: str,
    key: str,
    *,
    key_name: str = "OPENAI_API_KEY",
    url_name: str = "OPENAI_BASE_URL",
    headers: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the models that an OpenAI-compatible server lists; none when it keeps no list.

    Args:
        base_url: The server's.
        key: Its key; empty for none.
        key_name: Where the key comes from, for the hint of an error.
        url_name: Where the URL comes from, likewise.
        headers: Hold the key, where the server takes it in another way.

    Raises:
        ModelRefusedKey: it refuses the key.
        ModelUnavailable: it cannot be reached.
    """
    bearer = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with httpx.AsyncClient(timeout=PROBE_SECONDS) as client:
            response = await client.get(
                base_url.rstrip("/") + "/models", headers=bearer if headers is None else headers
            )
            if response.status_code in (401, 403):
                raise ModelRefusedKey(f"{_shown(base_url)} refuses the key.", hint=f"Check {key_name}.")
            rows = response.json()["data"] if response.is_success else []
            return [str(row["id"]) for row in rows]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = f"Check {url_name} and the network."
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


def open_provider(
    settings: Settings, name: str, *, patience: Patience | None = None, prices: Prices | None = None
) -> ProviderModel:
    """Return the backend for a `provider:model`. Imports the provider's package (seconds, once).

    Raises:
        ModelUnknown: no such provider, or its package is not installed.
        NoModel: the provider's key is missing.
    """
    provider, colon, model = name.partition(":")
    if not colon or not model:
        hint = f"Write it as provider:model, such as {DEFAULT_MODEL}."
        raise ModelUnknown(f"{name!r} names no model.", hint=hint, field="model")
    waits = patience or Patience()
    timeout_seconds = waits.answer_seconds
    options: dict[str, Any] = {}
    base_url = None
    if provider in TAKES_CLIENT_LIMITS:
        options |= {"max_retries": 0, "timeout": timeout_seconds}
    if provider == "openai":
        base_url = settings.openai_base_url
        options |= _openai_options(settings, name)
    own = {"anthropic": settings.anthropic_api_key, "google_genai": settings.google_api_key}.get(provider)
    if own is not None:
        options["api_key"] = own.get_secret_value()
    if provider == "ollama":
        options |= {
            "base_url": f"{OLLAMA_URL}/v1",
            "api_key": "ollama",
            "max_retries": 0,
            "timeout": timeout_seconds,
        }
    if provider in ("openai", "ollama"):
        # The gateway's deadlines take the place of the client's own.
        options |= {"stream_usage": True, "stream_chunk_timeout": None}
    chat = open_chat("openai" if provider == "ollama" else provider, model, options)
    return ProviderModel(
        name,
        chat,
        base_url=base_url,
        secret=options.get("api_key", ""),
        idle_seconds=waits.idle_seconds,
        prices=prices,
    )


def _openai_options(settings: Settings, name: str) -> dict[str, Any]:
    key = _key(settings)
    if not key and not settings.openai_base_url:
        raise NoModel(f"{name} needs OPENAI_API_KEY.", hint=THREE_WAYS, field="OPENAI_API_KEY")
    options: dict[str, Any] = {"api_key": key or "none"}
    if settings.openai_base_url:
        # Servers that imitate OpenAI have chat completions, seldom the newer responses endpoint.
        options |= {"base_url": settings.openai_base_url, "use_responses_api": False}
    return options


def open_chat(provider: str, model: str, options: dict[str, Any]) -> BaseChatModel:
    """Return a provider's chat model.

    Raises:
        ModelUnknown: no such provider, or its package is not installed.
        NoModel: it lacks something, such as its key.
    """
    from langchain.chat_models import init_chat_model

    try:
        if provider == "openai":
            from phoenix.llm.openai_chat import RefusingChatOpenAI

            return RefusingChatOpenAI(model=model, **options)
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
        self,
        name: str,
        chat: BaseChatModel,
        *,
        base_url: str | None = None,
        secret: str = "",
        idle_seconds: float = Patience.idle_seconds,
        prices: Prices | None = None,
    ) -> None:
        self.name = name
        self.output_tokens = _longest(chat)
        self.output_option = "max_output_tokens" if name.startswith(GOOGLE) else "max_tokens"
        self._prices = prices or Prices()
        self.endpoint = f"{name} at {_shown(base_url)}" if base_url else name
        self._idle_seconds = idle_seconds
        self._streams = None if _can_stream(chat) else False
        """Whether whole answers come in pieces; None until that is known."""
        self._misses = 0
        """Streams that brought no whole answer, before any did."""
        self._chat = chat
        self.marks_prefixes = type(chat).__name__ == "ChatAnthropic"
        """Whether what is stable in a call is marked for the provider's prompt cache."""
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
        if _is_openai(self._chat):
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

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return self._prices.most(self.name, input_tokens, output_tokens, base_url=self._base_url)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        if self.marks_prefixes:
            messages, options = marked(list(request.messages), dict(request.options))
            request = replace(request, messages=messages, options=options)
        lost: Billed | None = None
        try:
            streamed = None if self._streams is False else await self._streamed(request)
            if isinstance(streamed, Streamed):
                return self._whole(streamed)
            lost = streamed
            return replace(await self._plain(request), lost=lost)
        except self._failures as error:
            if (cut := self._cut_off(error)) is not None:
                return cut
            # A cause is printed with every traceback: one that quotes the key must not be kept.
            quoted = bool(self._secret) and self._secret in str(error)
            failure = translate(error, self.name, secret=self._secret)
            failure.billed = failure.billed or lost
            raise failure from (None if quoted else error)

    async def _streamed(self, request: ModelRequest) -> Streamed | Billed | None:
        """Return an answer that came in pieces; None where the server refuses to stream.

        Where the server does not stream as it should, what it may bill for that.
        """
        chunks = self._chat._astream(list(request.messages), stop=request.stop, **request.options)
        try:
            found = await gather(
                chunks,
                idle_seconds=self._idle_seconds,
                running_usage=_is_openai(self._chat),
            )
        except StreamIdle as error:
            raise fell_silent(self.name, error) from error
        except StreamBroken as error:
            billed = Billed(error.usage, self._cost(error.usage)) if error.usage else Billed()
            if self._streams is None:
                self._misses += 1
                return billed
            raise broken_off(self.name, error, billed) from error
        except self._failures as error:
            if self._streams is None and _refuses_streams(error):
                self._misses = MOST_MISSES
                return None
            raise
        self._streams = True
        return found

    async def _plain(self, request: ModelRequest) -> ModelAnswer:
        """Ask for the answer in one piece, from then on where streams bring none."""
        result = await self._chat._agenerate(list(request.messages), stop=request.stop, **request.options)
        if not result.generations:
            none = ModelUnavailable(f"{self.name} gave no answer.")
            raise CallFailed(none, again=True, billed=Billed())
        generation = result.generations[0]
        message = generation.message
        if not isinstance(message, AIMessage):
            other = ModelUnavailable(f"{self.name} did not answer as an assistant.")
            raise CallFailed(other, again=True, billed=Billed())
        if self._streams is None and self._misses >= MOST_MISSES:
            log.info("model_asked_without_stream", model=self.endpoint)
            self._streams = False
        about = {
            **(result.llm_output or {}),
            **message.response_metadata,
            **(generation.generation_info or {}),
        }
        return self._whole(Streamed(message, reason_in(about)))

    def _cut_off(self, error: Exception) -> ModelAnswer | None:
        """Return what OpenAI's client raises where an answer with a schema ends at the output limit."""
        completion = getattr(error, "completion", None)
        if type(error).__name__ != "LengthFinishReasonError" or completion is None:
            return None
        read: Any = self._chat._create_chat_result  # type: ignore[attr-defined]
        return self._whole(Streamed(read(completion).generations[0].message, "length"))

    def _whole(self, found: Streamed) -> ModelAnswer:
        cost = self._cost(found.message.usage_metadata)
        return ModelAnswer(found.message, self.name, cost, found.finish)

    def _cost(self, usage: UsageMetadata | None) -> Decimal | None:
        return self._prices.cost(self.name, usage, base_url=self._base_url)


def _is_openai(chat: BaseChatModel) -> bool:
    return any(kind.__name__ == "ChatOpenAI" for kind in type(chat).__mro__)


def _can_stream(chat: BaseChatModel) -> bool:
    from langchain_core.language_models import BaseChatModel as Plain

    return type(chat)._astream is not Plain._astream


def _refuses_streams(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    return status in (400, 404, 405, 415, 422, 501) and "stream" in str(error).lower()


def _longest(chat: BaseChatModel) -> int:
    """Return how long an answer may be where a request does not say it: no longer than the model can."""
    profile = chat.profile or {}
    return min(OUTPUT_TOKENS, profile.get("max_output_tokens") or OUTPUT_TOKENS)


def _client_errors() -> tuple[type[Exception], ...]:
    """Return what the loaded clients raise, and what LangChain raises for an answer of the wrong form."""
    errors: list[type[Exception]] = [LangChainException, httpx.HTTPError, OSError]
    errors += [ValueError, LookupError, TypeError, AttributeError]
    for where in CLIENT_ERRORS:
        module, _, name = where.partition(":")
        if module in sys.modules:
            errors.append(getattr(sys.modules[module], name))
    return tuple(errors)
