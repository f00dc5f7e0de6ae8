"""The composition root of the HTTP service. Apart from `bootstrap`, since most commands never need it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import ASGIApp

from phoenix.api.access import LocalUser
from phoenix.api.app import PREFIX, ApiOptions, Parts, create_app
from phoenix.api.provider import SECONDS, Provider, ProviderOptions, check_address
from phoenix.api.rates import open_rates
from phoenix.api.sources import Sources
from phoenix.api.tokens import SigningKeys, Tokens
from phoenix.bootstrap import System
from phoenix.domain.identity import Joining
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.identity import Identity
from phoenix.engine.work import wall_of
from phoenix.errors import NotFound, SettingInvalid
from phoenix.events.shared import SharedEventLog
from phoenix.safety import check_safe
from phoenix.settings import Settings
from phoenix.shop import find_model, is_choice
from phoenix.storage import organisations
from phoenix.storage.database import transaction
from phoenix.storage.signing import stored_keys
from phoenix.telemetry.redaction import know

log = structlog.get_logger(__name__)

FIRST_ADMIN = "admin@localhost"


@asynccontextmanager
async def open_door(
    system: System, *, local: LocalUser | None = None
) -> AsyncIterator[tuple[ASGIApp, str | None]]:
    """Make the HTTP service over a running system.

    Args:
        system: What it serves.
        local: Who runs this process, where the application serves nobody else: folders and recordings may
            be named, and no administrator is made whose key nobody would see.

    Yields:
        The application, and the API key of the first administrator when it was made just now.

    Raises:
        SettingInvalid: a rate is none, or what is set of the identity provider cannot be used.
    """
    settings, rows = system.settings, system.rows
    if local is None:
        check_safe(settings, serves=True, works=False)
        await _look_at_wall(rows)
    identity = Identity(rows)
    key = None if local else await identity.first_admin(DEFAULT_ORGANISATION, FIRST_ADMIN)

    async def keys() -> SigningKeys:
        async with transaction(rows) as connection:
            found = await stored_keys(connection)
        know(*found.secrets.values())
        return SigningKeys(found.current, found.secrets)

    redis = settings.redis_url.get_secret_value() if settings.redis_url and not local else None
    options = ApiOptions(
        cors_origins=tuple(settings.cors_origins),
        rate_limit=settings.rate_limit,
        sign_in_limit=settings.sign_in_limit,
        route_limits=settings.route_limits,
        webhook_allow=tuple(settings.webhook_allow),
        is_secure=settings.tls,
    )
    async with open_rates(redis) as rates, _open_provider(settings, rows) as provider:
        parts = Parts(
            engine=system.engine,
            database=rows,
            identity=identity,
            tokens=Tokens(await keys(), keys),
            rates=rates,
            sources=Sources(
                partial(find_model, settings),
                is_local=settings.local_sources or local is not None,
                is_choice=partial(is_choice, settings),
            ),
            # Every reader of this process reads one tail.
            events=SharedEventLog(system.engine.log),
            code=system.code,
            upkeep=system.upkeep,
            memories=system.memories,
            provider=provider,
            joining=Joining(
                domains=[domain.lower() for domain in settings.oidc_domains],
                role=settings.oidc_role,
                organisation_id=settings.oidc_organisation or DEFAULT_ORGANISATION,
            ),
            local=local,
        )
        yield create_app(parts, options), key


async def _look_at_wall(rows: AsyncEngine) -> None:
    """Say so where a service for several organisations keeps them apart by its queries alone."""
    if await wall_of(rows) == "none":
        log.warning(
            "tenant_wall_missing",
            hint="The account of DATABASE_URL bypasses row-level security and may not become phoenix_tenant."
            " Grant it that role, then run `phoenix migrate`.",
        )


def _check_alone(settings: Settings) -> None:
    """Check that nothing is set about an identity provider that is not named.

    Raises:
        SettingInvalid: something is.
    """
    about = {
        "PHOENIX_OIDC_CLIENT_ID": settings.oidc_client_id,
        "PHOENIX_OIDC_CLIENT_SECRET": settings.oidc_client_secret,
        "PHOENIX_OIDC_DOMAINS": settings.oidc_domains,
        "PHOENIX_OIDC_ORGANISATION": settings.oidc_organisation,
    }
    stray = [name for name, value in about.items() if value]
    if stray:
        raise SettingInvalid(
            f"{stray[0]} is set, but no identity provider.",
            field="PHOENIX_OIDC_ISSUER",
            hint=f"Give the provider's address, or leave {stray[0]} out.",
        )


async def _check_organisation(settings: Settings, rows: AsyncEngine) -> None:
    """Check that there is an organisation for whoever joins by signing in.

    Raises:
        SettingInvalid: there is none.
    """
    if settings.oidc_organisation is None:
        return
    try:
        async with transaction(rows) as connection:
            await organisations.get(connection, settings.oidc_organisation)
    except NotFound as error:
        raise SettingInvalid(error.message, field="PHOENIX_OIDC_ORGANISATION") from error


@asynccontextmanager
async def _open_provider(settings: Settings, rows: AsyncEngine) -> AsyncIterator[Provider | None]:
    """Yield the identity provider; None where none is set.

    Raises:
        SettingInvalid: something that it needs is missing, or is no https address.
    """
    if not settings.oidc_issuer:
        _check_alone(settings)
        yield None
        return
    if not settings.oidc_client_id:
        raise SettingInvalid("No client is named.", field="PHOENIX_OIDC_CLIENT_ID")
    if not settings.public_url:
        raise SettingInvalid(
            "The identity provider has nowhere to send browsers back to.",
            field="PHOENIX_PUBLIC_URL",
            hint="Give where browsers reach this service, such as https://phoenix.example.org.",
        )
    secret = settings.oidc_client_secret
    if secret is not None and not secret.get_secret_value():
        raise SettingInvalid(
            "The client's secret is empty.",
            field="PHOENIX_OIDC_CLIENT_SECRET",
            hint="Give it; for a public client, which has none, leave the setting out.",
        )
    await _check_organisation(settings, rows)
    home = check_address(settings.public_url.rstrip("/"), "PHOENIX_PUBLIC_URL")
    options = ProviderOptions(
        issuer=check_address(settings.oidc_issuer, "PHOENIX_OIDC_ISSUER"),
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value if secret else "",
        redirect=f"{home}{PREFIX}/auth/oidc/callback",
    )
    async with httpx.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
        yield Provider(options, client)
