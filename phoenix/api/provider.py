"""The identity provider that users sign in with: OpenID Connect, authorization code with PKCE.

Its addresses and keys are found at its issuer (OpenID Connect Discovery 1.0); what it says of a user is taken
from a signed token alone (OpenID Connect Core 1.0, 3.1.3.7).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import jwt
from pydantic import TypeAdapter, ValidationError

from phoenix.domain.cleaning import clean_text
from phoenix.domain.identity import Email, External
from phoenix.errors import ProviderUnavailable, SettingInvalid, Unauthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What a provider may sign with: never a secret that both sides have, and never nothing."""
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]
LEEWAY_SECONDS = 5
SECONDS = 10.0
"""How long the provider may take to answer."""
KEPT_SECONDS = 3600.0
"""How long its addresses and keys are taken for true."""
RENEW_SECONDS = 10.0
"""A token that names an unknown key has keys fetched anew, but not more often."""
MOST_BYTES = 512 * 1024
MOST_SUBJECT_CHARS = 255
"""As the standard says, and in ASCII."""
SCOPE = "openid email profile"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ProviderOptions:
    """Which provider, and as whom the service speaks to it."""

    issuer: str
    client_id: str
    client_secret: str | Callable[[], str]
    """Or what tells it, where it may change. Empty for a public client, which PKCE alone protects."""
    redirect: str
    """Where the provider sends browsers back to."""


@dataclass(frozen=True)
class _Found:
    """What the provider says of itself."""

    authorize: str
    token: str
    jwks: str
    at: float


def challenge_of(verifier: str) -> str:
    """Return the PKCE challenge of a verifier (RFC 7636, S256)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def check_address(url: str, field: str) -> str:
    """Return an address that secrets may be sent to.

    Raises:
        SettingInvalid: it is not reached over TLS, or not on this machine.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return url
    raise SettingInvalid(f"{url!r} is no https address.", field=field)


def _address(given: object) -> str:
    """Return an e-mail address as accounts have it; empty for what is none."""
    try:
        return str(TypeAdapter(Email).validate_python(given))
    except ValidationError:
        return ""


class Provider:
    """Speaks with the identity provider.

    Args:
        options: Which.
        client: Does the requests; closed by the caller. It follows no redirects.
    """

    def __init__(self, options: ProviderOptions, client: httpx.AsyncClient) -> None:
        self.options = options
        self._client = client
        self._about: _Found | None = None
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._keys_at = float("-inf")

    async def address(self, *, state: str, nonce: str, verifier: str) -> str:
        """Return where a browser goes to sign in.

        Raises:
            ProviderUnavailable: the provider does not say where.
        """
        asked = {
            "response_type": "code",
            "client_id": self.options.client_id,
            "redirect_uri": self.options.redirect,
            "scope": SCOPE,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
        }
        found = (await self._found()).authorize
        return f"{found}{'&' if urlsplit(found).query else '?'}{urlencode(asked)}"

    async def user(self, *, code: str, verifier: str, nonce: str) -> External:
        """Return who signed in.

        Raises:
            Unauthenticated: the code is no good, or the token is not one for this sign-in.
            ProviderUnavailable: the provider does not answer as it should.
        """
        claims = await self._claims(await self._exchange(code, verifier))
        if not hmac.compare_digest(str(claims["nonce"]).encode("utf-8", "replace"), nonce.encode()):
            raise Unauthenticated("The provider's token belongs to another sign-in.", hint="Sign in again.")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if (several or "azp" in claims) and claims.get("azp") != self.options.client_id:
            raise Unauthenticated("The provider's token is for another client.", hint="Sign in again.")
        subject = str(claims["sub"])
        if not (0 < len(subject) <= MOST_SUBJECT_CHARS and subject.isascii() and subject.isprintable()):
            raise Unauthenticated("The provider's token names nobody.", hint="Sign in again.")
        return External(
            issuer=self.options.issuer,
            subject=subject,
            email=_address(claims.get("email")),
            is_verified=claims.get("email_verified") is True,
            name=clean_text(str(claims.get("name") or ""))[:100],
        )

    async def _exchange(self, code: str, verifier: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.options.redirect,
            "client_id": self.options.client_id,
            "code_verifier": verifier,
        }
        given = self.options.client_secret
        secret = given() if callable(given) else given
        auth = httpx.BasicAuth(self.options.client_id, secret) if secret else httpx.USE_CLIENT_DEFAULT
        request = self._client.build_request("POST", (await self._found()).token, data=form)
        status, body = await self._answer(request, auth)
        if status in (400, 401):
            raise Unauthenticated("The provider does not take this sign-in.", hint="Sign in again.")
        token = body.get("id_token") if status == 200 else None
        if not isinstance(token, str):
            raise ProviderUnavailable("The identity provider gave no token.")
        return token

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = await self._key(str(jwt.get_unverified_header(token).get("kid", "")))
            return dict(
                jwt.decode(
                    token,
                    key.key,
                    # The key says what it is for; the token is not asked.
                    algorithms=[key.algorithm_name],
                    audience=self.options.client_id,
                    issuer=self.options.issuer,
                    leeway=LEEWAY_SECONDS,
                    options={"require": REQUIRED},
                )
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated("The provider's token is not valid.", hint="Sign in again.") from error

    async def _key(self, kid: str) -> jwt.PyJWK:
        age = time.monotonic() - self._keys_at
        if age > KEPT_SECONDS or (kid not in self._keys and age > RENEW_SECONDS):
            self._keys = await self._fetch_keys()
            self._keys_at = time.monotonic()
        if kid not in self._keys:
            raise jwt.InvalidKeyError("unknown key")
        return self._keys[kid]

    async def _fetch_keys(self) -> dict[str, jwt.PyJWK]:
        body = await self._get((await self._found()).jwks)
        keys: dict[str, jwt.PyJWK] = {}
        for given in body.get("keys") or ():
            try:
                key = jwt.PyJWK.from_dict(given)
            except (jwt.PyJWTError, AttributeError, TypeError, ValueError):
                continue  # of a kind that is not known here: what it signs is refused
            if key.algorithm_name in ALGORITHMS and given.get("use", "sig") == "sig":
                keys[str(given.get("kid", ""))] = key
        return keys

    async def _found(self) -> _Found:
        if self._about is not None and time.monotonic() - self._about.at < KEPT_SECONDS:
            return self._about
        issuer = self.options.issuer
        body = await self._get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if body.get("issuer") != issuer:
            raise ProviderUnavailable("The identity provider calls itself something else than was set.")
        try:
            places = [
                check_address(str(body[name]), name)
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")
            ]
        except (KeyError, SettingInvalid) as error:
            raise ProviderUnavailable("The identity provider lacks an address.") from error
        self._about = _Found(places[0], places[1], places[2], time.monotonic())
        return self._about

    async def _get(self, url: str) -> dict[str, Any]:
        status, body = await self._answer(self._client.build_request("GET", url))
        if status != 200:
            raise ProviderUnavailable(f"The identity provider answered {status}.")
        return body

    async def _answer(
        self, request: httpx.Request, auth: Any = httpx.USE_CLIENT_DEFAULT
    ) -> tuple[int, dict[str, Any]]:
        """Do a request, and return status and body; a body that is too large or no object is none."""
        try:
            answer = await self._client.send(request, auth=auth, stream=True)
            try:
                data = b""
                async for chunk in answer.aiter_bytes():
                    data += chunk
                    if len(data) > MOST_BYTES:
                        raise ProviderUnavailable("The identity provider's answer is too large.")
            finally:
                await answer.aclose()
            body = httpx.Response(200, content=data).json() if data else {}
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderUnavailable("The identity provider cannot be reached.") from error
        return answer.status_code, body if isinstance(body, dict) else {}
