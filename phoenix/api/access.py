"""Who makes a request, and the policy that every route declares; a route without one stops the start."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute
from limits import RateLimitItem
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import HTTPConnection

from phoenix.api.errors import id_of
from phoenix.api.rates import Rates
from phoenix.api.tokens import Tokens
from phoenix.domain.identity import Permission, Principal
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.approvals import Approvals
from phoenix.engine.identity import KEY_MARK, Identity, read_credential
from phoenix.errors import Forbidden, Unauthenticated
from phoenix.telemetry import context

PUBLIC = "public"

SCHEMES: Mapping[str, Mapping[str, str]] = {
    "HTTPBearer": {"type": "http", "description": "An access token, or an API key.", "scheme": "bearer"},
    "APIKeyHeader": {"type": "apiKey", "description": "An API key.", "in": "header", "name": "X-API-Key"},
}
"""What a request may carry, as the description of the API says it."""

Find = Callable[[AsyncConnection | None], Awaitable[Principal]]
"""Tells whose a credential is, and counts the request; a transaction that is given is theirs from then on."""


@dataclass(frozen=True)
class LocalUser:
    """The person who runs this process, known by a key that never leaves it."""

    key: str
    who: Principal


def local_user(name: str) -> LocalUser:
    """Return an administrator of the default organisation who has no account, with a key made just now."""
    clean = re.sub(r"[\s@\x00]+", "-", name)[:200] or "local"
    who = Principal(
        user_id=uuid5(NAMESPACE_URL, f"urn:phoenix:local:{clean}"),
        organisation_id=DEFAULT_ORGANISATION,
        email=f"{clean}@localhost",
        role="admin",
        via="key",
        credential_id=uuid4(),
    )
    return LocalUser(f"phx_local_{secrets.token_urlsafe(32)}", who)


class Gatekeeper:
    """Tells who makes a request from its headers.

    Args:
        identity: Knows users, sessions and keys.
        tokens: Reads access tokens.
        rates: Counts requests.
        limit: How many each user or key may make.
        route_limits: How many of single routes, by name.
        local: Who else may come in, where the application serves its own process alone.
    """

    def __init__(
        self,
        identity: Identity,
        tokens: Tokens,
        rates: Rates,
        limit: RateLimitItem,
        route_limits: Mapping[str, RateLimitItem],
        local: LocalUser | None = None,
    ) -> None:
        self.identity = identity
        self.tokens = tokens
        self.rates = rates
        self.limit = limit
        self.route_limits = route_limits
        self.local = local

    async def principal(self, connection: HTTPConnection) -> Principal:
        """Return who makes a request, and count it.

        Raises:
            Unauthenticated: it carries no credential, two of them, or none that is good.
            RateLimited: this user or key makes too many.
        """
        return await (await self.claimed(connection))(None)

    async def claimed(self, connection: HTTPConnection) -> Find:
        """Check a request's credential as far as that goes without a database, and return what does the rest.

        Raises:
            Unauthenticated: it carries no credential, two of them, or one that is forged or none.
        """
        given = [*_credentials(connection)]
        if len(given) != 1:
            raise Unauthenticated(
                "Give one credential." if given else "Nobody is signed in.",
                hint="Send `Authorization: Bearer TOKEN`, or `X-API-Key: KEY`.",
            )
        local = self.local
        if local is not None and hmac.compare_digest(given[0].encode(), local.key.encode()):
            return _found(local.who)
        key = given[0] if given[0].startswith(f"{KEY_MARK}_") else ""
        session_id = None if key else await self.tokens.read(given[0])
        if key:
            read_credential(KEY_MARK, key)

        async def find(within: AsyncConnection | None) -> Principal:
            if session_id is None:
                who = await self.identity.of_key(key, within=within)
            else:
                who = await self.identity.of_session(session_id, within=within)
            await self.rates.check(self.limit, *_counted(who))
            context.bind(organisation_id=str(who.organisation_id))
            return who

        return find

    async def count(self, who: Principal, name: str) -> None:
        """Count a request against the limit of its route, if one is set.

        Raises:
            RateLimited: this user or key makes too many of them.
        """
        limit = self.route_limits.get(name)
        if limit is not None and (self.local is None or who is not self.local.who):
            await self.rates.check(limit, name, *_counted(who))


def _found(who: Principal) -> Find:
    """Return what finds somebody who is known already, and is not counted."""

    async def find(_within: AsyncConnection | None) -> Principal:
        return who

    return find


def _counted(who: Principal) -> tuple[str, str]:
    """Return who is counted: a key has a limit of its own; a user has one over all sessions."""
    return who.via, str(who.credential_id if who.via == "key" else who.user_id)


def _credentials(connection: HTTPConnection) -> Iterator[str]:
    for value in connection.headers.getlist("authorization"):
        scheme, _, text = value.partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise Unauthenticated("The Authorization header is not of the form `Bearer TOKEN`.")
        yield text.strip()
    yield from connection.headers.getlist("x-api-key")


Refused = Callable[[Request, Principal, str], Awaitable[None]]
"""Told of somebody who was not let in, and why."""


class Policy:
    """Lets in who has a permission.

    A grant counts in its project only: where the path names that project, or, with `somewhere`, where the
    endpoint itself looks which project it is about.

    Args:
        permission: What the route asks for.
        somewhere: The permission in any project is enough to be let in.
        limit: The route's own limit, by its name among those that are set; empty for none.
        refused: Told of whoever is not let in.
    """

    def __init__(
        self,
        permission: Permission,
        *,
        somewhere: bool = False,
        limit: str = "",
        refused: Refused | None = None,
    ) -> None:
        self.permission = permission
        self.somewhere = somewhere
        self.limit = limit
        self.refused = refused

    async def __call__(self, request: Request) -> Principal:
        gatekeeper: Gatekeeper = request.app.state.gatekeeper
        known: Principal | None = getattr(request.state, "principal", None)
        who = known or await gatekeeper.principal(request)
        try:
            check_permitted(who, self.permission, request.path_params, somewhere=self.somewhere)
        except Forbidden as error:
            if self.refused is not None:
                await self.refused(request, who, error.message)
            raise
        await gatekeeper.count(who, self.limit)
        return who


def check_permitted(
    who: Principal, permission: Permission, path: Mapping[str, Any], *, somewhere: bool = False
) -> None:
    """Check that somebody may do something in the organisation, or in the project that a path names.

    Raises:
        Forbidden: they may not.
    """
    if not (who.may_somewhere(permission) if somewhere else who.may(permission, _project_of(path))):
        raise Forbidden(
            f"Your role ({who.role}) may not {permission}.",
            hint="Ask an administrator of your organisation.",
        )


def _project_of(path: Mapping[str, Any]) -> UUID | None:
    try:
        return UUID(str(path["project_id"]))
    except (KeyError, ValueError):  # it names none, or is refused as soon as who asks is known
        return None


class Declared:
    """Declares the policy of an endpoint that lets in by itself, as a websocket's has to."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    async def __call__(self) -> None:
        """Do nothing: the endpoint checks."""


def allows(
    permission: Permission, *, somewhere: bool = False, limit: str = "", refused: Refused | None = None
) -> Any:
    """Return the dependency that a route declares its policy with; see `Policy`."""
    return Depends(Policy(permission, somewhere=somewhere, limit=limit, refused=refused))


async def _not_to_decide(request: Request, who: Principal, why: str) -> None:
    """Note that somebody tried to decide whose role decides nothing, where there is such an approval."""
    approvals: Approvals = request.app.state.approvals
    await approvals.refused(who, request.path_params["approval_id"], why, request_id=id_of(request))


Reader = Annotated[Principal, allows("read")]
Developer = Annotated[Principal, allows("develop")]
Approver = Annotated[Principal, allows("approve", somewhere=True)]
"""Approvals are named by their own ids: which project one belongs to is seen when it is read."""
Decider = Annotated[Principal, allows("approve", somewhere=True, refused=_not_to_decide)]
"""As Approver; who may not is noted in the audit log."""
Admin = Annotated[Principal, allows("administer")]


async def public(request: Request) -> None:
    """Mark a route that anybody may call."""


Public = Depends(public)


def policy_of(dependant: Dependant) -> str:
    """Return the policy that a route declares; empty when it declares none."""
    for inner in dependant.dependencies:
        if isinstance(inner.call, Policy | Declared):
            return inner.call.permission
        if inner.call is public:
            return PUBLIC
        if found := policy_of(inner):
            return found
    return ""


def declared(routers: Sequence[tuple[str, APIRouter]]) -> dict[tuple[str, str], str]:
    """Return what the routes of routers declare, by method and path; empty where a route declares none."""
    found: dict[tuple[str, str], str] = {}
    for prefix, router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute | APIWebSocketRoute):
                path = prefix + route.path
                methods = (route.methods or set()) if isinstance(route, APIRoute) else {"WEBSOCKET"}
                found |= {(method, path): policy_of(route.dependant) for method in methods}
    return found


def policies(app: FastAPI, routers: Sequence[tuple[str, APIRouter]]) -> dict[tuple[str, str], str]:
    """Return the policy of every route, by method and path.

    Args:
        app: The application.
        routers: The routers it is made of, each with what stands before its paths.

    Raises:
        RuntimeError: a route declares none, or belongs to none of the routers.
    """
    found = declared(routers)
    # What clients can call, by the framework's own account of it.
    called = {(m.upper(), path) for path, methods in app.openapi()["paths"].items() for m in methods}
    bare = [place for place, policy in found.items() if not policy] + sorted(called - set(found))
    if bare:
        raise RuntimeError(f"The route {' '.join(bare[0])} declares no policy.")
    return found
