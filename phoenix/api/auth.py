"""Signing in and out."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from phoenix.api.access import Public, Reader
from phoenix.api.payloads import Answer, Id, Payload
from phoenix.api.rates import Rates
from phoenix.api.tokens import Tokens
from phoenix.domain.identity import MAY, Role
from phoenix.engine.identity import Identity, Opened

router = APIRouter(prefix="/auth", tags=["auth"])

MAX_CREDENTIAL_CHARS = 512


class SignIn(Payload):
    """An e-mail address and its password."""

    email: Annotated[str, Field(max_length=254, examples=["ann@example.org"])]
    password: Annotated[str, Field(max_length=256, examples=["correct horse battery"])]
    organisation_id: Id | None = None
    """Which organisation; the one that was joined first when left out."""


class Refresh(Payload):
    """The refresh token of the session."""

    refresh_token: Annotated[str, Field(max_length=MAX_CREDENTIAL_CHARS)]


class Session(Answer):
    """Tokens of a session. The refresh token is good once; its answer holds the next."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 the scheme, no secret
    expires_in: int
    """Seconds that the access token is good for."""
    organisation_id: UUID


class Me(Answer):
    """Who makes the request."""

    user_id: UUID
    email: str
    organisation_id: UUID
    role: Role
    may: list[str]
    """What is allowed in the organisation, an API key's scopes taken in."""
    grants: dict[UUID, Role]


async def check_sign_in_rate(request: Request) -> None:
    """Count a try to sign in.

    Raises:
        RateLimited: there were too many from this address on the network.
    """
    rates: Rates = request.app.state.rates
    host = request.client.host if request.client else "unknown"
    await rates.check(request.app.state.sign_in_limit, "sign-in", host)


def session_of(request: Request, opened: Opened) -> Session:
    """Return the tokens of a session that was opened."""
    tokens: Tokens = request.app.state.tokens
    return Session(
        access_token=tokens.issue(opened),
        refresh_token=opened.refresh_token,
        expires_in=tokens.seconds,
        organisation_id=opened.organisation_id,
    )


def _identity(request: Request) -> Identity:
    identity: Identity = request.app.state.identity
    return identity


@router.post("/sign-in", dependencies=[Public])
async def sign_in(given: SignIn, request: Request) -> Session:
    """Open a session with an e-mail address and a password."""
    await check_sign_in_rate(request)
    opened = await _identity(request).sign_in(
        given.email, given.password, organisation_id=given.organisation_id
    )
    return session_of(request, opened)


@router.post("/refresh", dependencies=[Public])
async def refresh(given: Refresh, request: Request) -> Session:
    """Exchange a refresh token for new tokens. A token that comes twice ends its session."""
    await check_sign_in_rate(request)
    return session_of(request, await _identity(request).refresh(given.refresh_token))


@router.post("/sign-out", status_code=204, response_class=Response)
async def sign_out(who: Reader, request: Request) -> None:
    """End the session, or revoke the API key, that the request is made with."""
    await _identity(request).sign_out(who)


@router.get("/me")
async def me(who: Reader) -> Me:
    """Tell who makes the request, and what they may do."""
    may: Any = sorted(p for p in MAY[who.role] if who.may(p))
    return Me(
        user_id=who.user_id,
        email=who.email,
        organisation_id=who.organisation_id,
        role=who.role,
        may=may,
        grants=who.grants,
    )
