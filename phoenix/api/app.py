"""The application: routes, and what surrounds them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from phoenix import __version__
from phoenix.api import (
    approvals,
    audit,
    auth,
    checkpoints,
    code,
    errors,
    events,
    forks,
    health,
    members,
    memory,
    messages,
    oidc,
    organisation,
    projects,
    rules,
    templates,
    traces,
    webhooks,
    workers,
    workflows,
)
from phoenix.api.access import Gatekeeper, LocalUser, policies
from phoenix.api.description import describe, problems
from phoenix.api.middleware import BodyLimits, RequestContext
from phoenix.api.provider import Provider
from phoenix.api.rates import Rates, read_limit
from phoenix.api.sources import Sources
from phoenix.api.tokens import Tokens
from phoenix.domain.addresses import Allowed
from phoenix.domain.identity import Joining
from phoenix.engine.approvals import Approvals
from phoenix.engine.engine import Engine
from phoenix.engine.identity import AuditLog, Identity
from phoenix.engine.memories import Memories
from phoenix.engine.projects import Projects
from phoenix.engine.quotas import Organisations
from phoenix.engine.upkeep import Upkeep
from phoenix.engine.webhooks import Webhooks
from phoenix.ports import Code, EventLog
from phoenix.settings import ROUTE_LIMITS

PREFIX = "/api/v1"
DOCS = ("/docs", "/redoc")
COMPRESSED_BYTES = 1024
ACCEPTED = ("Authorization", "X-API-Key", "Idempotency-Key", "If-Match", "Content-Type", "traceparent")
EXPOSED = ["X-Request-ID", "ETag", "Location", "Retry-After", "Idempotency-Replayed", "traceparent"]

# In the order in which they are looked through: what is asked most comes first.
ROUTERS: tuple[tuple[str, APIRouter], ...] = (
    (PREFIX, projects.router),
    (PREFIX, auth.router),
    (PREFIX, oidc.router),
    (PREFIX, members.router),
    (PREFIX, organisation.router),
    (PREFIX, messages.router),
    (PREFIX, rules.router),
    (PREFIX, forks.router),
    (PREFIX, code.router),
    (PREFIX, checkpoints.router),
    (PREFIX, memory.router),
    (PREFIX, templates.router),
    (PREFIX, workflows.router),
    (PREFIX, events.router),
    (PREFIX, traces.router),
    (PREFIX, approvals.router),
    (PREFIX, audit.router),
    (PREFIX, workers.router),
    (PREFIX, webhooks.router),
    ("", health.router),
)

ABOUT = """
Launch projects from written requirements, follow them, decide where people decide, fetch what is delivered.

Send `Authorization: Bearer TOKEN`, or `X-API-Key: KEY`. Errors are `application/problem+json` with a stable
`code`. Every POST takes an `Idempotency-Key`: the same request again gets the same answer.
"""


@dataclass(frozen=True)
class ApiOptions:
    """What can be set about the front door."""

    cors_origins: tuple[str, ...] = ()
    max_body_bytes: int = 2 * 1024**2
    body_seconds: float = 20.0
    rate_limit: str = "1200/minute"
    """For each user or key."""
    sign_in_limit: str = "20/minute"
    """For each address on the network that tries to sign in."""
    route_limits: Mapping[str, str] = field(default_factory=lambda: dict(ROUTE_LIMITS))
    """More limits for each user or key, by the name that routes give theirs."""
    webhook_allow: tuple[str, ...] = ()
    """Networks and hosts that webhooks may be sent to although they are not public."""
    is_secure: bool = False
    """It is reached over TLS only."""


@dataclass(frozen=True)
class Parts:
    """What the application serves."""

    engine: Engine
    database: AsyncEngine
    identity: Identity
    tokens: Tokens
    rates: Rates
    sources: Sources
    events: EventLog
    code: Code
    upkeep: Upkeep
    memories: Memories
    provider: Provider | None = None
    """Where users sign in; None lets them do so with passwords only."""
    joining: Joining | None = None
    """Who becomes a member by it."""
    local: LocalUser | None = None
    """Who runs this process, where nobody else can reach the application."""


def create_app(parts: Parts, options: ApiOptions | None = None) -> ASGIApp:
    """Return the application, surrounded by what every request passes through.

    Raises:
        RuntimeError: a route declares no policy.
        SettingInvalid: a rate is none.
    """
    options = options or ApiOptions()
    app = bare_app()
    if parts.local is None:
        # Who runs the process may do everything, and waits for this check with every command.
        policies(app, ROUTERS)
    app.state.engine = parts.engine
    app.state.database = parts.database
    app.state.identity = parts.identity
    app.state.tokens = parts.tokens
    app.state.rates = parts.rates
    app.state.sign_in_limit = read_limit(options.sign_in_limit)
    app.state.sources = parts.sources
    app.state.projects = Projects(parts.database)
    # Asking the router would walk all routes for each answer.
    app.state.projects_path = str(app.url_path_for("list_projects"))
    app.state.approvals = Approvals(parts.database)
    app.state.organisations = Organisations(parts.database)
    app.state.code = parts.code
    app.state.provider = parts.provider
    app.state.joining = parts.joining
    app.state.upkeep = parts.upkeep
    app.state.memories = parts.memories
    app.state.forking = asyncio.Semaphore(forks.AT_ONCE)
    app.state.audit = AuditLog(parts.database)
    app.state.webhooks = Webhooks(parts.database, Allowed(options.webhook_allow))
    app.state.event_log = parts.events
    app.state.followed = Counter()
    app.state.gatekeeper = Gatekeeper(
        parts.identity,
        parts.tokens,
        parts.rates,
        read_limit(options.rate_limit),
        {name: read_limit(text) for name, text in options.route_limits.items()},
        parts.local,
    )
    surrounded: ASGIApp = BodyLimits(app, max_bytes=options.max_body_bytes, seconds=options.body_seconds)
    surrounded = GZipMiddleware(surrounded, minimum_size=COMPRESSED_BYTES)
    if options.cors_origins:
        surrounded = CORSMiddleware(
            surrounded,
            allow_origins=list(options.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[*ACCEPTED],
            expose_headers=EXPOSED,
            max_age=600,
        )
    return RequestContext(surrounded, docs=DOCS, is_secure=options.is_secure)


def bare_app() -> FastAPI:
    """Return the application with its routes alone, as its documentation is generated from."""
    app = FastAPI(
        title="Phoenix",
        version=__version__,
        description=ABOUT.strip(),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=DOCS[0],
        redoc_url=DOCS[1],
        swagger_ui_oauth2_redirect_url=None,
    )
    errors.install(app)
    for prefix, router in ROUTERS:
        app.include_router(router, prefix=prefix, responses=problems())
    describe(app, PREFIX, ROUTERS)
    return app
