"""What runs may use: the ports of each, and the models that answer. Names adapters, as `bootstrap` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.configuration.composing import Composed, overrides_of
from phoenix.delivery.branch import BranchOutlet
from phoenix.domain.listed import Listed
from phoenix.domain.model_name import behind_chaos
from phoenix.domain.run import Project, Run
from phoenix.engine.engine import Services
from phoenix.engine.memories import Memories
from phoenix.engine.memory import RunMemory
from phoenix.errors import (
    RepositoryUnreadable,
    SettingInvalid,
)
from phoenix.llm import listing, providers
from phoenix.llm.access import Aliases, open_alias, require_keys
from phoenix.llm.calls import Backend
from phoenix.llm.catalogue import CHOICE, Catalogue, compose_catalogue, read_catalogue
from phoenix.llm.models import MissingModels, open_backend, open_models
from phoenix.llm.response_cache import RedisAnswers, ResponseCache
from phoenix.llm.routing import CatalogueRouter, read_choice
from phoenix.llm.traffic import Traffic
from phoenix.ports import Effect, Models, Ports, Provisioner, Sandboxes
from phoenix.sandbox.harness import PytestHarness
from phoenix.settings import Settings, live_secrets
from phoenix.storage.answers import AnswerRows
from phoenix.workspace.places import scope_of
from phoenix.workspace.push import push_target, shown
from phoenix.workspace.repository import GitWorkspace

SHORT_ID = 8


@dataclass
class Shop:
    """Makes the ports of a run, sharing what projects can share."""

    settings: Settings
    sandboxes: Sandboxes
    provisioner: Provisioner
    memories: Memories
    rows: AsyncEngine
    redis: Redis | None = None
    record: Path | None = None
    given: Mapping[str, Backend] | None = None
    """What answers for a model's name instead of its provider."""
    traffic: Traffic = field(default_factory=Traffic)
    backends: dict[str, Backend] = field(init=False)
    _opened_with: dict[str, tuple[str, ...]] = field(init=False, default_factory=dict)
    catalogue: Catalogue | None = field(init=False)

    def __post_init__(self) -> None:
        self.backends = dict(self.given or {})
        self.catalogue = _usable_catalogue(self.settings, to_work=bool(self.sandboxes.kind))
        if self.catalogue is not None:
            self._aliases = Aliases(self.catalogue, self.settings, self.given or {})

    def ports(self, run: Run, project: Project, services: Services) -> Ports:
        """Return what a run may use."""
        models = self._models(run, project, services)
        folder = self._folder(project)
        workspace = self.workspace(project, scope=scope_of(run.id, run.attempt))
        target = push_target(project.repository)
        # What a recording asks must not depend on what else was ever done here.
        is_fixed = models.is_recording or self.record is not None
        return Ports(
            project_id=project.id,
            run_id=run.id,
            artifacts=services.artifacts,
            events=services.events,
            children=services.children,
            models=models,
            workspace=workspace,
            sandboxes=self.sandboxes,
            provisioner=self.provisioner,
            harness=PytestHarness(self.sandboxes, self.provisioner),
            permissions=services.permissions,
            steering=services.steering,
            memory=RunMemory(self.memories, run) if self.settings.memory and not is_fixed else None,
            outlet=BranchOutlet(
                workspace,
                folder / "report",
                key=str(project.id)[:SHORT_ID],
                outbox=services.outbox,
                target=None if target is None else shown(target),
            ),
            gates=services.gates,
            path=project.path,
            budget_usd=project.budget_usd,
        )

    def _folder(self, project: Project) -> Path:
        return self.settings.home / "projects" / str(project.id)

    def workspace(self, project: Project, *, scope: str = "") -> GitWorkspace:
        """Open a project's repository; the worktrees are one attempt's own, the rest is everybody's."""
        local = self.settings.worktrees
        return GitWorkspace(
            self._folder(project),
            project.title,
            scope=scope,
            local=None if local is None else local / str(project.id),
        )

    async def push(self, project: Project, effect: Effect) -> dict[str, Any]:
        """Push a delivered branch to where the project's code came from; one that is there stays."""
        branch, commit = str(effect.payload["branch"]), str(effect.payload["commit"])
        target = push_target(project.repository)
        if target is None:
            raise RepositoryUnreadable("Nothing can be pushed to where this project's code came from.")
        workspace = self.workspace(project)
        await workspace.branch(branch, commit)
        await workspace.publish(target, branch)
        return {"repository": shown(target), "branch": branch, "commit": commit}

    def _models(self, run: Run, project: Project, services: Services) -> Models:
        if not project.model:
            return MissingModels(services.usage)
        router = self._router(project.model, services)
        return open_models(
            self.settings,
            project.model,
            usage=services.usage,
            journal=services.journal,
            events=services.events,
            budgets=services.budgets,
            record=self.record,
            project=str(project.id)[:SHORT_ID],
            backend=self._backend(project.model) if router is None else router,
            cache=None if router is None else self._cache(router, run),
            traffic=self.traffic,
            organisation=str(project.organisation_id),
        )

    def _router(self, model: str, services: Services) -> CatalogueRouter | None:
        """Return what routes a project's calls; None where one model answers them all."""
        if self.catalogue is None or model in self.backends:
            return None
        choice = read_choice(self.catalogue, model)
        if choice is None:
            return None
        opened, events = self._aliases.open, services.events
        return CatalogueRouter(self.catalogue, choice, open_alias=opened, events=events)

    def _cache(self, router: CatalogueRouter, run: Run) -> ResponseCache | None:
        """Return the response cache of a run; None where no agent opted in."""
        if self.catalogue is None or not any(a.cache for a in self.catalogue.agents.values()):
            return None
        organisation = run.organisation_id
        return ResponseCache(
            RedisAnswers(self.redis, organisation) if self.redis else AnswerRows(self.rows, organisation),
            answering=router.cached,
            seconds=self.catalogue.cache_hours * 3600,
            reads=run.attempt <= 1,
        )

    def _backend(self, model: str) -> Backend:
        if model in (self.given or {}):
            return self.backends[model]
        keys = tuple(secret.get_secret_value() for secret in live_secrets(self.settings).values())
        # A key that was renewed opens the model anew.
        if model not in self.backends or self._opened_with[model] != keys:
            self.backends[model] = open_backend(self.settings, model)
            self._opened_with[model] = keys
        return self.backends[model]


def service_catalogue(settings: Settings) -> Catalogue | None:
    """Return the model catalogue; None where none is set.

    Raises:
        SettingInvalid: it cannot be used; names file, line and path.
    """
    overrides = overrides_of("models", settings.overrides)
    if settings.models is not None:
        return read_catalogue(settings.models, overrides, environment=settings.config_environment)
    if overrides:
        raise SettingInvalid(
            f"There is no model catalogue that {overrides[0]} could change.",
            field="PHOENIX_MODELS",
            hint="Set it to a YAML file or a folder.",
        )
    return None


def composed_catalogue(settings: Settings) -> tuple[Catalogue, Composed] | None:
    """Return the model catalogue and where each of its values comes from; None where none is set.

    Raises:
        SettingInvalid: it cannot be used; names file, line and path.
    """
    if service_catalogue(settings) is None or settings.models is None:
        return None
    overrides = overrides_of("models", settings.overrides)
    return compose_catalogue(settings.models, overrides, environment=settings.config_environment)


async def list_models(settings: Settings, *, check: bool = False) -> Sequence[Listed]:
    """Return what the model catalogue holds; with `check` the providers are asked too.

    Raises:
        SettingInvalid: there is no catalogue, or it cannot be used.
    """
    catalogue = service_catalogue(settings)
    if catalogue is None:
        raise SettingInvalid(
            "There is no model catalogue.",
            field="PHOENIX_MODELS",
            hint="Set it to a YAML file; see docs/models.md.",
        )
    return await listing.list_models(catalogue, settings, check=check)


def _usable_catalogue(settings: Settings, *, to_work: bool) -> Catalogue | None:
    """Return the model catalogue; where models are to be asked, with the keys that it needs."""
    catalogue = service_catalogue(settings)
    if catalogue is not None and to_work:
        require_keys(catalogue, settings)
    return catalogue


def is_choice(settings: Settings, name: str) -> bool:
    """Tell whether the model catalogue chooses what answers for a name.

    Raises:
        ModelUnknown: it is neither of the catalogue nor of the form `provider:model`.
        SettingInvalid: the catalogue cannot be used.
    """
    catalogue = service_catalogue(settings)
    return catalogue is not None and read_choice(catalogue, name) is not None


async def find_model(settings: Settings) -> str:
    """Return the model to use.

    Raises:
        NoModel: none is configured; names the ways to give one.
    """
    if not settings.model and settings.models is not None:
        return CHOICE
    return await providers.find_model(settings)


async def check_model(settings: Settings, name: str) -> None:
    """Check early that a model can be used.

    Raises:
        ModelUnknown, NoModel, ModelRefusedKey, ModelUnavailable: why it cannot.
    """
    catalogue = service_catalogue(settings)
    choice = None if catalogue is None else read_choice(catalogue, name)
    if catalogue is not None and choice is not None:
        if choice.pin is None:
            require_keys(catalogue, settings)
        else:
            open_alias(choice.pin, catalogue.models[choice.pin], settings)
        return
    open_backend(settings, name)
    name = behind_chaos(name)
    if not name.startswith("recorded:"):
        await providers.check_model(settings, name)
