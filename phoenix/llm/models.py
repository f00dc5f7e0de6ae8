"""The models of one project, as the rooms above see them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage

from phoenix.domain.frozen import Frozen
from phoenix.domain.run import Usage
from phoenix.errors import NoModel
from phoenix.llm.calls import Backend
from phoenix.llm.gateway import Gateway, GatewayModel, Patience
from phoenix.llm.providers import THREE_WAYS, open_provider
from phoenix.llm.recording import RecordedModel, Recorder, read_recording
from phoenix.llm.structured import StructuredCalls
from phoenix.ports import Caller, Events, UsageLog
from phoenix.settings import Settings

M = TypeVar("M", bound=Frozen)
RECORDED = "recorded:"


class ProjectModels:
    """Port `Models` over one backend."""

    def __init__(
        self,
        backend: Backend,
        *,
        usage: UsageLog,
        events: Events,
        budget: Decimal | None = None,
        project: str = "ID",
        recorder: Recorder | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.name = backend.name
        self.is_recording = backend.recorded
        self._usage = usage
        self._gateway = Gateway(
            backend,
            usage=usage,
            events=events,
            budget=budget,
            project=project,
            recorder=recorder,
            patience=patience,
        )
        self._structured = StructuredCalls(self._gateway)

    def chat(self, caller: Caller) -> BaseChatModel:
        return GatewayModel(gateway=self._gateway, caller=caller)

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

    async def structured(self, caller: Caller, messages: Sequence[BaseMessage], schema: type[M]) -> M:
        raise self._error(caller)

    async def usage(self) -> Usage:
        return await self._usage.total()

    def _error(self, caller: Caller) -> NoModel:
        return NoModel(
            f"{caller.agent} asks a model, and this project was started without one.", hint=THREE_WAYS
        )


def open_backend(settings: Settings, name: str) -> Backend:
    """Return the backend for `recorded:FILE` or `provider:model`.

    Raises:
        ModelUnknown: no such file, provider or package.
        NoModel: the provider's key is missing.
    """
    if name.startswith(RECORDED):
        return RecordedModel(read_recording(Path(name.removeprefix(RECORDED)).expanduser()))
    return open_provider(settings, name)


def open_models(
    settings: Settings,
    name: str,
    *,
    usage: UsageLog,
    events: Events,
    budget: Decimal | None = None,
    record: Path | None = None,
    project: str = "ID",
    backend: Backend | None = None,
) -> ProjectModels:
    """Open the models of one project.

    Args:
        settings: Holds key and base URL.
        name: `provider:model`, or `recorded:FILE`; `providers.find_model` finds one.
        usage: Where calls are counted.
        events: The project's log.
        budget: USD; no call starts once this is spent.
        record: File that answers are appended to.
        project: Id that hints name.
        backend: Answers instead of the named one. It may be shared by projects: opening a provider
            imports its package, and a recording is read once.

    Raises:
        ModelUnknown: no such file, provider or package.
        NoModel: the provider's key is missing.
        SettingInvalid: the file to record to cannot be used.
    """
    answering = backend or open_backend(settings, name)
    recorder = Recorder(record, model=name) if record is not None else None
    return ProjectModels(
        answering, usage=usage, events=events, budget=budget, project=project, recorder=recorder
    )
