"""The composition root: Settings → a running system. The only file that names concrete adapters."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.delivery.branch import BranchOutlet
from phoenix.domain.run import Project, Run
from phoenix.engine.engine import Engine, Services
from phoenix.engine.queue import open_queue
from phoenix.errors import DatabaseUnavailable, DiskFull, SandboxUnavailable
from phoenix.events.log import PostgresEventLog
from phoenix.flow.algebra import Flow
from phoenix.llm import providers
from phoenix.llm.calls import Backend
from phoenix.llm.models import MissingModels, open_backend, open_models
from phoenix.ports import Models, Ports, Provisioner, Sandboxes
from phoenix.sandbox.choice import Probe, choose_sandboxes, probe_all
from phoenix.sandbox.harness import PytestHarness
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.settings import Settings
from phoenix.storage.database import connect, conninfo, parse_url
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.events import EventRows
from phoenix.storage.migrate import upgrade
from phoenix.workflows.develop import develop
from phoenix.workflows.task import task
from phoenix.workspace.repository import GitWorkspace

MIN_FREE_BYTES = 256 * 1024**2
SHORT_ID = 8

FLOWS: Mapping[str, Flow[Any, Any]] = {"develop": develop, "task": task}


@dataclass(frozen=True)
class System:
    """A running Phoenix in this process."""

    settings: Settings
    engine: Engine
    home: Path
    sandbox: str
    """The kind of sandbox; empty when this process executes nothing."""
    database: str


@dataclass
class Shop:
    """Makes the ports of a run, sharing what projects can share."""

    settings: Settings
    sandboxes: Sandboxes
    provisioner: Provisioner
    record: Path | None = None
    backends: dict[str, Backend] = field(default_factory=dict)
    workspaces: dict[UUID, GitWorkspace] = field(default_factory=dict)

    def ports(self, run: Run, project: Project, services: Services) -> Ports:
        """Return what a run may use."""
        models = self._models(project, services)
        folder = self.settings.home / "projects" / str(project.id)
        # One workspace a project: runs of this process share what it knows of its worktrees.
        workspace = self.workspaces.setdefault(project.id, GitWorkspace(folder, project.title))
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
            outlet=BranchOutlet(
                workspace,
                folder / "report",
                key=str(project.id)[:SHORT_ID],
                target=_local(project.repository),
            ),
            path=project.path,
            budget_usd=project.budget_usd,
        )

    def _models(self, project: Project, services: Services) -> Models:
        if not project.model:
            return MissingModels(services.usage)
        if project.model not in self.backends:
            self.backends[project.model] = open_backend(self.settings, project.model)
        return open_models(
            self.settings,
            project.model,
            usage=services.usage,
            events=services.events,
            budget=project.budget_usd,
            record=self.record,
            project=str(project.id)[:SHORT_ID],
            backend=self.backends[project.model],
        )


def _local(repository: str | None) -> str | None:
    """Return the user's own repository when it is a folder of this machine."""
    if repository is None or not Path(repository).expanduser().is_dir():
        return None
    return str(Path(repository).expanduser().absolute())


@asynccontextmanager
async def open_system(
    settings: Settings,
    *,
    execution: bool = True,
    record: Path | None = None,
    flows: Mapping[str, Flow[Any, Any]] | None = None,
    types: Collection[type] = (),
    backends: Mapping[str, Backend] | None = None,
) -> AsyncIterator[System]:
    """Start what this process needs, and stop it at the end.

    Args:
        settings: What was set.
        execution: Whether this process may execute projects' code; without it there is no sandbox.
        record: File that model traffic is recorded to.
        flows: More flows, by name; the models of their signatures may be in checkpoints.
        types: More models that may be.
        backends: What answers for a model's name instead of its provider, such as a scripted model.

    Raises:
        DatabaseUnavailable, DiskFull: storage cannot be used.
        SandboxUnavailable: execution is wanted and nothing isolates it here.
    """
    make_home(settings)
    sandboxes = await choose_sandboxes(settings.sandbox) if execution else _Nothing()
    async with AsyncExitStack() as stack:
        url, database = await _database(settings, stack)
        await upgrade(url)
        known = {**FLOWS, **(flows or {})}
        models = {model for flow in known.values() for model in flow.models()}
        serializer = StrictSerializer(*models, *types)
        saver = await stack.enter_async_context(open_saver(conninfo(url), serializer=serializer))
        rows = connect(url, pool_size=max(10, settings.concurrency * 2))
        stack.push_async_callback(rows.dispose)
        log = await stack.enter_async_context(PostgresEventLog(conninfo(url), EventRows(rows).read))
        queue = open_queue(conninfo(url))
        await stack.enter_async_context(queue.open_async())
        provisioner = WheelProvisioner(settings.home / "environments", sandboxes)
        shop = Shop(settings, sandboxes, provisioner, record, dict(backends or {}))
        engine = Engine(
            database=rows,
            queue=queue,
            checkpointer=saver,
            flows=known,
            ports_for=shop.ports,
            log=log,
            concurrency=settings.concurrency,
        )
        yield System(settings, engine, settings.home, sandboxes.kind, database)


class _Nothing:
    """Stands where nothing may be executed."""

    kind = ""

    def open(self, *_: object, **__: object) -> Any:
        raise SandboxUnavailable("This process was started without execution.")


def make_home(settings: Settings) -> None:
    """Make the data folder.

    Raises:
        DiskFull: there is too little space to work safely.
        DatabaseUnavailable: the folder cannot be made.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(settings.home).free
    except OSError as error:
        raise DatabaseUnavailable(
            f"The data folder {settings.home} cannot be made: {error.strerror}.",
            hint="Set PHOENIX_HOME to a folder that you can write.",
        ) from error
    if free < MIN_FREE_BYTES:
        raise DiskFull(
            f"Only {free // 1024**2} MB are free at {settings.home}.",
            hint=f"Free at least {MIN_FREE_BYTES // 1024**2} MB, or set PHOENIX_HOME; nothing is lost.",
        )


async def _database(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        parsed = parse_url(url)
        return url, f"PostgreSQL at {parsed.host or 'the local socket'}"
    url = await stack.enter_async_context(EmbeddedPostgres(settings.home))
    return url, "embedded PostgreSQL"


async def probe_sandboxes() -> list[Probe]:
    """Try every kind of sandbox on this machine."""
    return await probe_all()


async def find_model(settings: Settings) -> str:
    """Return the model to use.

    Raises:
        NoModel: none is configured; names the ways to give one.
    """
    return await providers.find_model(settings)


async def check_model(settings: Settings, name: str) -> None:
    """Check early that a model can be used.

    Raises:
        ModelUnknown, NoModel, ModelRefusedKey, ModelUnavailable: why it cannot.
    """
    open_backend(settings, name)
    if not name.startswith("recorded:"):
        await providers.check_model(settings, name)
