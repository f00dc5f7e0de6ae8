"""The models of one project, as the rooms above see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from pydantic import ValidationError

from phoenix.domain.frozen import Frozen
from phoenix.domain.price import ModelPrice
from phoenix.domain.run import Usage
from phoenix.errors import NoModel, SettingInvalid
from phoenix.llm.calls import Backend
from phoenix.llm.chaos import PREFIX, ChaosModel, read_chaos
from phoenix.llm.chat import GatewayModel
from phoenix.llm.gateway import Gateway
from phoenix.llm.journal import MemoryJournal
from phoenix.llm.patience import Patience, patience_of
from phoenix.llm.prices import Prices
from phoenix.llm.providers import THREE_WAYS, open_provider
from phoenix.llm.recording import RecordedModel, Recorder, read_recording
from phoenix.llm.response_cache import ResponseCache
from phoenix.llm.route import OneBackend, Router
from phoenix.llm.structured import StructuredCalls
from phoenix.llm.traffic import Traffic
from phoenix.ports import Budgets, Caller, CallJournal, Events, UsageLog
from phoenix.settings import Settings

M = TypeVar("M", bound=Frozen)
RECORDED = "recorded:"


class ProjectModels:
    """Port `Models` over one backend, or over those that a router names."""

    def __init__(  # noqa: PLR0913 - each is one thing that a call passes
        self,
        answering: Backend | Router,
        *,
        usage: UsageLog,
        events: Events,
        journal: CallJournal | None = None,
        budgets: Budgets | None = None,
        project: str = "ID",
        recorder: Recorder | None = None,
        patience: Patience | None = None,
        traffic: Traffic | None = None,
        organisation: str = "",
        cache: ResponseCache | None = None,
    ) -> None:
        router = answering if isinstance(answering, Router) else OneBackend(answering)
        self.name = router.name
        self.is_recording = router.recorded
        self._router = router
        self._usage = usage
        self._gateway = Gateway(
            router,
            usage=usage,
            journal=journal or MemoryJournal(usage, budgets),
            events=events,
            budgets=budgets,
            project=project,
            recorder=recorder,
            patience=patience,
            traffic=traffic,
            organisation=organisation,
            cache=cache,
        )
        self._structured = StructuredCalls(self._gateway)

    def chat(self, caller: Caller) -> BaseChatModel:
        return GatewayModel(gateway=self._gateway, caller=caller)

    def room(self, caller: Caller) -> int | None:
        return self._router.room(caller)

    async def structured(self, caller: Caller, messages: Sequence[BaseMessage], schema: type[M]) -> M:
        return await self._structured.ask(caller, messages, schema)

    async def usage(self) -> Usage:
        return await self._usage.total()


class MissingModels:
    """Port `Models` where none is configured: a flow that asks no model runs all the same."""

    name = ""
    is_recording = False

    def __init__(self, usage: UsageLog) -> None:
        self._usage = usage

    def chat(self, caller: Caller) -> BaseChatModel:
        raise self._error(caller)

    def room(self, caller: Caller) -> int | None:
        return None

    async def structured(self, caller: Caller, messages: Sequence[BaseMessage], schema: type[M]) -> M:
        raise self._error(caller)

    async def usage(self) -> Usage:
        return await self._usage.total()

    def _error(self, caller: Caller) -> NoModel:
        return NoModel(
            f"{caller.agent} asks a model, and this project was started without one.", hint=THREE_WAYS
        )


def prices_of(settings: Settings) -> Prices:
    """Return the prices that calls are counted at.

    Raises:
        SettingInvalid: an override is no price; names the model.
    """
    own: dict[str, ModelPrice] = {}
    for name, given in settings.price_overrides.items():
        try:
            own[name] = ModelPrice.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingInvalid(
                f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
                field="PHOENIX_PRICE_OVERRIDES",
                hint="Give USD per million tokens as input_mtok and output_mtok.",
            ) from error
    return Prices(own, strict=settings.prices == "strict")


def open_backend(settings: Settings, name: str) -> Backend:
    """Return the backend for `recorded:FILE`, `provider:model`, or `chaos:RATE[,seed=N]:` before one of them.

    Raises:
        ModelUnknown: no such file, provider or package.
        NoModel: the provider's key is missing.
    """
    if name.startswith(PREFIX):
        options, inner = read_chaos(name)
        behind = open_backend(settings, inner)
        return ChaosModel(behind, options, idle_seconds=settings.model_idle_seconds)
    if name.startswith(RECORDED):
        return RecordedModel(read_recording(Path(name.removeprefix(RECORDED)).expanduser()))
    return open_provider(settings, name, patience=patience_of(settings), prices=prices_of(settings))


def open_models(  # noqa: PLR0913 - each is one thing that a run's models are made of
    settings: Settings,
    name: str,
    *,
    usage: UsageLog,
    events: Events,
    journal: CallJournal | None = None,
    budgets: Budgets | None = None,
    record: Path | None = None,
    project: str = "ID",
    backend: Backend | Router | None = None,
    traffic: Traffic | None = None,
    organisation: str = "",
    cache: ResponseCache | None = None,
) -> ProjectModels:
    """Open the models of one project.

    Args:
        settings: Holds key and base URL.
        name: `provider:model`, or `recorded:FILE`; `providers.find_model` finds one.
        usage: Where calls are counted.
        events: The project's log.
        journal: Where answers are kept; without one they are forgotten with this process.
        budgets: What calls are under; None for no limit.
        record: File that answers are appended to.
        project: Id that hints name.
        backend: Answers instead of the named one. It may be shared by projects: opening a provider
            imports its package, and a recording is read once. A router names one for each call.
        traffic: What the calls of all projects in this process pass; without it this project's own.
        organisation: Whose calls these are: organisations take turns.
        cache: Answers what was asked before.

    Raises:
        ModelUnknown: no such file, provider or package.
        NoModel: the provider's key is missing.
        SettingInvalid: the file to record to cannot be used.
    """
    answering = backend or open_backend(settings, name)
    recorder = Recorder(record, model=name) if record is not None else None
    return ProjectModels(
        answering,
        usage=usage,
        journal=journal,
        events=events,
        budgets=budgets,
        project=project,
        recorder=recorder,
        patience=patience_of(settings),
        traffic=traffic,
        organisation=organisation,
        cache=cache,
    )
