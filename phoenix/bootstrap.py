"""The composition root: Settings → a running system. The only file that names concrete adapters."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from procrastinate import App
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix import __version__
from phoenix.checkpoints.saver import Checkpointer, open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.configuration.composing import Composed, overrides_of
from phoenix.configuration.renewing import renewing
from phoenix.delivery.branch import PUSH
from phoenix.delivery.posting import Poster
from phoenix.domain.addresses import Allowed
from phoenix.domain.circuit import Circuits
from phoenix.domain.permissions import RuleSet
from phoenix.domain.upkeep import Migrated
from phoenix.engine.courier import Courier
from phoenix.engine.engine import Engine
from phoenix.engine.memories import Memories, MemoryOptions
from phoenix.engine.outbox import Performer
from phoenix.engine.pauses import MB, Space
from phoenix.engine.queue import open_queue
from phoenix.engine.upgrading import UpgradeWatch
from phoenix.engine.upkeep import Upkeep
from phoenix.engine.worker import WorkerOptions
from phoenix.errors import (
    DatabaseUnavailable,
    DiskFull,
    DomainInvalid,
    SandboxUnavailable,
    SettingInvalid,
)
from phoenix.events.log import PostgresEventLog
from phoenix.flow.algebra import Flow
from phoenix.llm.breaker import Breaker
from phoenix.llm.calls import Backend
from phoenix.llm.circuits import RedisCircuits, open_redis
from phoenix.llm.limits import open_caps
from phoenix.llm.models import prices_of
from phoenix.llm.traffic import Traffic
from phoenix.memory.choice import open_vectors
from phoenix.ports import Code, Provisioner, Sandboxes
from phoenix.safety import check_safe
from phoenix.sandbox.choice import Probe, choose_sandboxes, probe_all, probe_kubernetes
from phoenix.sandbox.kubernetes import KubernetesSandboxes
from phoenix.sandbox.measured import MeasuredSandboxes
from phoenix.sandbox.pods import KubernetesOptions
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.settings import Settings, live_secrets, open_stores
from phoenix.shop import Shop
from phoenix.storage import migrate
from phoenix.storage.bounded import connect_bounded
from phoenix.storage.circuits import CircuitRows
from phoenix.storage.database import connect, conninfo, parse_url
from phoenix.storage.deliveries import DueDeliveries
from phoenix.storage.direct import Direct
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.events import EventRows
from phoenix.storage.passwords import password_file
from phoenix.storage.spans import SpanRows
from phoenix.telemetry import tracing
from phoenix.telemetry.recorder import Recorder, RecorderOptions
from phoenix.telemetry.redaction import KNOWN
from phoenix.telemetry.sentry import reporting
from phoenix.tools.rule_files import default_rules, parse_rules
from phoenix.workflows.develop import develop, develop_with
from phoenix.workflows.merging import merge
from phoenix.workflows.options import WorkflowOptions, compose_workflows
from phoenix.workflows.task import task, task_with
from phoenix.workspace.copying import ProjectRepositories
from phoenix.workspace.reading import ProjectCode

log = structlog.get_logger(__name__)

START_FREE = 4
"""Space that a start asks for, as a multiple of that below which work pauses."""
REDIS_SECONDS = 0.5
"""How long a model call waits for Redis before it goes without the response cache."""

OTLP_NAMES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own names of the setting that names a collector."""

FLOWS: Mapping[str, Flow[Any, Any]] = {"develop": develop, "task": task, "merge": merge}


def service_flows(settings: Settings) -> Mapping[str, Flow[Any, Any]]:
    """Return the workflows that come with Phoenix, with what is set about them.

    Raises:
        SettingInvalid: it cannot be used; names file, line and path.
    """
    if settings.workflows is None and not overrides_of("workflows", settings.overrides):
        return FLOWS
    options, _ = composed_workflows(settings)
    ours = develop_with(options.develop.verify_rounds), task_with(options.task.rounds)
    return {**FLOWS, "develop": ours[0], "task": ours[1]}


def composed_workflows(settings: Settings) -> tuple[WorkflowOptions, Composed | None]:
    """Return the options of the workflows and where each comes from.

    Raises:
        SettingInvalid: they cannot be used; names file, line and path.
    """
    overrides = overrides_of("workflows", settings.overrides)
    return compose_workflows(settings.workflows, overrides, environment=settings.config_environment)


@dataclass(frozen=True)
class System:
    """A running Phoenix in this process."""

    settings: Settings
    engine: Engine
    home: Path
    upkeep: Upkeep
    sandbox: str
    """The kind of sandbox; empty when this process executes nothing."""
    database: str
    rows: AsyncEngine
    memories: Memories
    traffic: Traffic
    """What this process's calls of models pass; its breaker tells how the circuits stand."""

    @property
    def code(self) -> Code:
        """What reads projects' code."""
        return ProjectCode(self.home / "projects")


@asynccontextmanager
async def open_system(
    settings: Settings,
    *,
    execution: bool = True,
    record: Path | None = None,
    flows: Mapping[str, Flow[Any, Any]] | None = None,
    types: Collection[type] = (),
    backends: Mapping[str, Backend] | None = None,
    queues: Collection[str] = (),
    performers: Mapping[str, Performer] | None = None,
) -> AsyncIterator[System]:
    """Start what this process needs, and stop it at the end.

    Args:
        settings: What was set.
        execution: Whether this process may execute projects' code; without it there is no sandbox.
        record: File that model traffic is recorded to.
        flows: More flows, by name; the models of their signatures may be in checkpoints.
        types: More models that may be.
        backends: What answers for a model's name instead of its provider, such as a scripted model.
        queues: From which queues this process takes runs; none for those of every flow it knows.
        performers: What does more kinds of effects outside of Phoenix.

    Raises:
        DatabaseUnavailable, DiskFull, SettingInvalid: storage, rules or model catalogue cannot be used.
        SchemaTooNew, SchemaTooOld, SchemaInUse: the database's schema does not fit this version.
        SandboxUnavailable: execution is wanted and nothing isolates it here.
    """
    _prepare(settings, to_work=execution)
    async with AsyncExitStack() as stack:
        stack.enter_context(reporting(settings.sentry_dsn))
        sandboxes = await _sandboxes(settings, stack) if execution else _Nothing()
        url, database = await _renewed_database(settings, stack)
        if settings.auto_migrate:
            await migrate.upgrade(url, reader=settings.database_reader)
        known = {**service_flows(settings), **(flows or {})}
        saver, rows, log, queue = await _storage(settings, url, _serializer(known, types), stack)
        await stack.enter_async_context(open_tracing(settings, url, sweeps=execution))
        provisioner = WheelProvisioner(settings.home / "environments", sandboxes)
        shop = await _shop(settings, sandboxes, provisioner, rows, stack, record=record, given=backends)
        repositories = ProjectRepositories(settings.home / "projects")
        engine = Engine(
            database=rows,
            queue=queue,
            checkpointer=saver,
            flows=known,
            ports_for=shop.ports,
            log=log,
            performers={PUSH: shop.push, **(performers or {})},
            repositories=repositories,
            options=_worker_options(settings, queues),
            rules=service_rules(settings),
            beside=_courier(settings, rows, queue).running,
        )
        upkeep = Upkeep(
            database=rows,
            queue=queue,
            checkpointer=saver,
            workspace_of=shop.workspace,
            repositories=repositories,
            provisioner=provisioner,
            retention_days=settings.retention_days,
            environment_days=settings.environment_days,
        )
        upkeep.schedule()
        parts = (upkeep, sandboxes.kind, database, rows, shop.memories, shop.traffic)
        yield System(settings, engine, settings.home, *parts)


async def _storage(
    settings: Settings, url: str, serializer: StrictSerializer, stack: AsyncExitStack
) -> tuple[Checkpointer, AsyncEngine, PostgresEventLog, App]:
    """Open what checkpoints, rows, events and jobs go through."""
    saver = await stack.enter_async_context(
        open_saver(conninfo(url), serializer=serializer, connect=connect_bounded)
    )
    rows = await _rows(url, settings, stack)
    log = await stack.enter_async_context(PostgresEventLog(conninfo(url), EventRows(rows).read))
    queue = open_queue(conninfo(url))
    await stack.enter_async_context(queue.open_async())
    return saver, rows, log, queue


def _courier(settings: Settings, rows: AsyncEngine, queue: App) -> Courier:
    poster = Poster(Allowed(settings.webhook_allow))
    return Courier(rows, poster, is_due=DueDeliveries(Direct(queue)))


async def _shop(
    settings: Settings,
    sandboxes: Sandboxes,
    provisioner: Provisioner,
    rows: AsyncEngine,
    stack: AsyncExitStack,
    **more: Any,
) -> Shop:
    """Return what makes the ports of runs; what it opens is closed with the stack."""
    traffic = await stack.enter_async_context(open_traffic(settings, rows))
    memories, redis = _memory(settings, rows, stack), _redis(settings, stack)
    return Shop(settings, sandboxes, provisioner, memories, rows, redis, traffic=traffic, **more)


def _memory(settings: Settings, rows: AsyncEngine, stack: AsyncExitStack) -> Memories:
    """Return what organisations remember, its vectors closed with the stack."""
    vectors = open_vectors(settings)
    stack.push_async_callback(vectors.close)
    size, most = settings.memory_max_mb * MB, settings.memory_max_items
    return Memories(rows, vectors, MemoryOptions(most, size, settings.memory_holdout))


async def _sandboxes(settings: Settings, stack: AsyncExitStack) -> Sandboxes:
    """Return the sandboxes to use; what they keep goes with the stack."""
    found = await choose_sandboxes(settings.sandbox, _kubernetes_options(settings))
    if isinstance(found, KubernetesSandboxes):
        await stack.enter_async_context(found.tended())
    return MeasuredSandboxes(found)


def _kubernetes_options(settings: Settings) -> KubernetesOptions:
    return KubernetesOptions(
        namespace=settings.kubernetes_namespace,
        image=settings.kubernetes_image,
        runtime_class=settings.kubernetes_runtime_class,
        warm=settings.kubernetes_warm,
        environments=settings.home / "environments",
    )


@asynccontextmanager
async def open_tracing(settings: Settings, url: str, *, sweeps: bool) -> AsyncIterator[None]:
    """Record this process's spans within the body, where that is wanted.

    Raises:
        SettingInvalid: they are to be sent, and no collector is named.
    """
    named = bool(settings.otlp_endpoint) or any(os.environ.get(name) for name in OTLP_NAMES)
    if settings.traces in ("otlp", "both") and not named:
        hint = f"Set PHOENIX_OTLP_ENDPOINT, or {OTLP_NAMES[0]}."
        raise SettingInvalid("No collector is named to send traces to.", field="PHOENIX_TRACES", hint=hint)
    if settings.traces == "off":
        yield
        return
    sender = None
    if named and settings.traces != "database":
        # It takes a while to import, and most systems have no collector.
        from phoenix.telemetry.otlp import OtlpSender

        instance = f"{socket.gethostname()}:{os.getpid()}"
        sender = OtlpSender(settings.otlp_endpoint, version=__version__, instance=instance)
    options = RecorderOptions(settings.trace_share, keeps_all=settings.traces != "otlp", sweeps=sweeps)
    recorder = Recorder(SpanRows(conninfo(url), limit=settings.trace_max_spans), sender, options)
    async with recorder.running():
        with tracing.installed(recorder):
            yield


@asynccontextmanager
async def open_traffic(settings: Settings, rows: AsyncEngine) -> AsyncIterator[Traffic]:
    """Yield what calls of models pass: shared through Redis if there is one, circuits else through rows."""
    url = None if settings.redis_url is None else settings.redis_url.get_secret_value()
    async with AsyncExitStack() as stack:
        circuits: Circuits = CircuitRows(rows)
        if url is not None:
            circuits = RedisCircuits(await stack.enter_async_context(open_redis(url)))
        breaker = Breaker(circuits)
        stack.push_async_callback(breaker.aclose)
        yield Traffic(breaker, await stack.enter_async_context(open_caps(url)))


async def _rows(url: str, settings: Settings, stack: AsyncExitStack) -> AsyncEngine:
    """Return a pool of connections, closed with the stack, to a database whose schema fits."""
    rows = connect(url, pool_size=max(10, settings.concurrency * 2))
    stack.push_async_callback(rows.dispose)
    await migrate.check(rows)
    return rows


def service_rules(settings: Settings) -> RuleSet:
    """Return the rules on tools that this process works with.

    Raises:
        SettingInvalid: their file cannot be used; names line and field.
    """
    if settings.rules is None:
        return default_rules()
    try:
        return parse_rules(settings.rules.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, DomainInvalid) as error:
        raise SettingInvalid(f"{settings.rules}: {error}", field="PHOENIX_RULES") from error


def _serializer(flows: Mapping[str, Flow[Any, Any]], types: Collection[type]) -> StrictSerializer:
    models = {model for flow in flows.values() for model in flow.models()}
    return StrictSerializer(*models, *types)


def _worker_options(settings: Settings, queues: Collection[str]) -> WorkerOptions:
    return WorkerOptions(
        queues=tuple(queues),
        concurrency=settings.concurrency,
        drain_seconds=settings.drain_seconds,
        space=Space(settings.home, settings.min_free_mb * MB, 2 * settings.min_free_mb * MB),
    )


def _redis(settings: Settings, stack: AsyncExitStack) -> Redis | None:
    """Return a client of Redis, closed with the stack, which connects when it is used; None without one."""
    if settings.redis_url is None:
        return None
    url = settings.redis_url.get_secret_value()
    client = Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    stack.push_async_callback(client.aclose)
    return client


class _Nothing:
    """Stands where nothing may be executed."""

    kind = ""

    def open(self, *_: object, **__: object) -> Any:
        raise SandboxUnavailable("This process was started without execution.")


def _prepare(settings: Settings, *, to_work: bool) -> None:
    """Find what is wrong with the settings before anything is opened, and make the data folder."""
    check_safe(settings, serves=False, works=to_work)
    learn_secrets(settings)
    prices_of(settings)
    make_home(settings, to_work=to_work)


def learn_secrets(settings: Settings) -> None:
    """Have all secrets of settings and environment masked from now on."""
    KNOWN.add_settings(settings)
    KNOWN.add_environment(os.environ)


def make_home(settings: Settings, *, to_work: bool = False) -> None:
    """Make the data folder.

    Raises:
        DiskFull: there is too little space to work; looking and cleaning up go all the same.
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
    least = START_FREE * settings.min_free_mb
    if to_work and free < least * MB:
        raise DiskFull(
            f"Only {free // MB} MB are free at {settings.home}.",
            hint=f"Free at least {least} MB, or set PHOENIX_HOME; nothing is lost.",
        )


async def _database(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        parsed = parse_url(url)
        return url, f"PostgreSQL at {parsed.host or 'the local socket'}"
    url = await stack.enter_async_context(EmbeddedPostgres(settings.home))
    return url, "embedded PostgreSQL"


async def _renewed_database(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    """Return the database's URL and name; renew what came from stores, its password too, until the end."""
    url, database = await _database(settings, stack)
    secrets = live_secrets(settings)

    def changed(names: Collection[str]) -> None:
        if "database_url" in names and take is not None:
            take(secrets["database_url"].get_secret_value())
        if late := sorted({"redis_url"} & set(names)):
            log.warning("secret_needs_restart", settings=[secrets[name].said for name in late])

    take: Callable[[str], None] | None = None
    if "database_url" in secrets:
        url, take = stack.enter_context(password_file(url, settings.home))
    seconds = settings.secrets_refresh_seconds
    renewal = renewing(secrets, open_stores(settings), seconds=seconds, changed=changed)
    await stack.enter_async_context(renewal)
    return url, database


async def migrate_database(
    settings: Settings, *, to: str = "head", down: str = "", check_only: bool = False
) -> Migrated:
    """Bring the schema to a revision, or say how it stands.

    Args:
        settings: What was set.
        to: The last revision to apply.
        down: The revision to go down to instead; `base` takes all away.
        check_only: Change nothing.

    Raises:
        SchemaTooNew, SchemaInUse, NotFound, DatabaseUnavailable, SettingInvalid: why it is not done.
    """
    learn_secrets(settings)
    make_home(settings)
    async with AsyncExitStack() as stack:
        url, _ = await _database(settings, stack)
        if check_only:
            return await migrate.status(url)
        if down:
            return await migrate.downgrade(url, down)
        return await migrate.upgrade(url, to=to, strict=True, reader=settings.database_reader)


@asynccontextmanager
async def open_upgrade_watch(
    settings: Settings, *, version: str, old: tuple[str, ...], seconds: float, least: int
) -> AsyncIterator[UpgradeWatch]:
    """Yield what compares a version with others, over one database and nothing else.

    Raises:
        SchemaTooOld, SchemaTooNew, DatabaseUnavailable: it cannot be looked at.
    """
    learn_secrets(settings)
    make_home(settings)
    async with AsyncExitStack() as stack:
        url, _ = await _database(settings, stack)
        rows = await _rows(url, settings, stack)
        yield UpgradeWatch(rows, version, old, seconds=seconds, least=least)


async def probe_sandboxes(settings: Settings) -> list[Probe]:
    """Try every kind of sandbox on this machine, and the cluster's where it is wanted."""
    found = await probe_all()
    if settings.sandbox == "kubernetes":
        found.append(await probe_kubernetes(KubernetesSandboxes(_kubernetes_options(settings))))
    return found
