"""Signing in through an identity provider, in a browser."""

from __future__ import annotations

import secrets
from typing import Annotated

from fastapi import APIRouter, Cookie, Query, Request, Response
from starlette.responses import RedirectResponse

from phoenix.api.access import Public
from phoenix.api.auth import Session, check_sign_in_rate, session_of
from phoenix.api.provider import Provider
from phoenix.engine.identity import Identity
from phoenix.errors import NotFound, Unauthenticated

router = APIRouter(prefix="/auth/oidc", tags=["auth"])

COOKIE = "phoenix_sign_in"
COOKIE_SECONDS = 600
SECRET_BYTES = 32

Text = Annotated[str, Query(max_length=4096)]


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise NotFound("No identity provider is configured.", hint="Set PHOENIX_OIDC_ISSUER.")
    return provider


@router.get(
    "/start",
    dependencies=[Public],
    status_code=303,
    response_class=RedirectResponse,
    responses={303: {"description": "To the identity provider.", "content": {}}},
)
async def start(request: Request) -> RedirectResponse:
    """Send a browser to the identity provider to sign in."""
    provider = _provider(request)
    await check_sign_in_rate(request)
    identity: Identity = request.app.state.identity
    state, browser, nonce, verifier = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(4))
    address = await provider.address(state=state, nonce=nonce, verifier=verifier)
    await identity.begin_sign_in(state=state, browser=browser, nonce=nonce, verifier=verifier)
    answer = RedirectResponse(address, status_code=303)
    answer.set_cookie(
        COOKIE,
        browser,
        max_age=COOKIE_SECONDS,
        path=request.url.path.rpartition("/")[0],
        secure=provider.options.redirect.startswith("https:"),
        httponly=True,
        # The provider sends the browser back with a plain link.
        samesite="lax",
    )
    return answer


@router.get("/callback", dependencies=[Public])
async def callback(
    request: Request,
    response: Response,
    state: Text = "",
    code: Text = "",
    error: Text = "",
    browser: Annotated[str, Cookie(alias=COOKIE, max_length=200)] = "",
) -> Session:
    """Take in a browser that comes back from the identity provider, and open a session. Good once."""
    provider = _provider(request)
    await check_sign_in_rate(request)
    identity: Identity = request.app.state.identity
    # Taken first: whatever is wrong with the rest, this state is not good again.
    begun = await identity.take_sign_in(state=state, browser=browser)
    if error or not code:
        raise Unauthenticated("The identity provider signed nobody in.", hint="Sign in again.")
    who = await provider.user(code=code, verifier=begun.verifier, nonce=begun.nonce)
    opened = await identity.of_provider(who, request.app.state.joining)
    response.delete_cookie(COOKIE, path=request.url.path.rpartition("/")[0])
    return session_of(request, opened)
