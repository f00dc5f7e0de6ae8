"""Signing in through an identity provider: a small one runs here, and lies in every way that it may."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Request
from sqlalchemy import text
from starlette.responses import JSONResponse, RedirectResponse, Response

from phoenix.api.provider import Provider, ProviderOptions, challenge_of, check_address
from phoenix.domain.identity import Joining
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.errors import SettingInvalid
from phoenix.storage.database import transaction
from tests.integration.api.conftest import PASSWORD, Front

CLIENT, SECRET = "phoenix", "the-client's-secret"
REDIRECT = "http://127.0.0.1/api/v1/auth/oidc/callback"
START, CALLBACK = "/api/v1/auth/oidc/start", "/api/v1/auth/oidc/callback"
KEY, OTHER_KEY = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


@dataclass
class Issuer:
    """A provider that signs in whoever comes, and the ways in which its token may be wrong."""

    url: str = ""
    claims: dict[str, Any] = field(default_factory=dict)
    """Other claims than are right; None leaves one out."""
    algorithm: str = "RS256"
    key: Any = KEY
    kid: str = "one"
    given: dict[str, dict[str, str]] = field(default_factory=dict)
    """What each code was given for."""
    kids: list[str] = field(default_factory=lambda: ["one"])
    fetched: int = 0

    def token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "sub": "user-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
            "email": "Ann@Example.org",
            "email_verified": True,
            "name": "Ann",
        }
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        return jwt.encode(claims, self.key, algorithm=self.algorithm, headers={"kid": self.kid})

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        async def about() -> Any:
            return {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }

        @app.get("/keys")
        async def keys() -> Any:
            self.fetched += 1
            jwk = jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
            secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret", "alg": "HS256"}
            return {
                "keys": [secret, *({**jwk, "kid": kid, "use": "sig", "alg": "RS256"} for kid in self.kids)]
            }

        @app.get("/authorize")
        async def authorize(
            client_id: str, redirect_uri: str, state: str, nonce: str, code_challenge: str, scope: str
        ) -> Response:
            if (client_id, redirect_uri) != (CLIENT, REDIRECT) or "openid" not in scope:
                return JSONResponse({"error": "invalid_request"}, 400)
            code = secrets.token_hex()
            self.given[code] = {"nonce": nonce, "challenge": code_challenge}
            return RedirectResponse(f"{redirect_uri}?code={code}&state={state}", 303)

        @app.post("/token")
        async def token(request: Request) -> Any:
            form = {name: value[0] for name, value in parse_qs((await request.body()).decode()).items()}
            asked = self.given.pop(form["code"], None)
            is_theirs = asked is not None and challenge_of(form["code_verifier"]) == asked["challenge"]
            if asked is None or not is_theirs or form["redirect_uri"] != REDIRECT:
                return JSONResponse({"error": "invalid_grant"}, 400)
            return {"id_token": self.token(asked), "access_token": "x", "token_type": "Bearer"}

        return app


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Serve a provider on a port of this machine."""
    issuer = Issuer()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        issuer.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(issuer.app(), log_config=None, lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield issuer
        server.should_exit = server.force_exit = True
        await running


@dataclass
class Browser:
    """A front door that knows the provider, and a browser before it."""

    front: Front
    issuer: Issuer
    http: httpx.AsyncClient
    elsewhere: httpx.AsyncClient

    async def leave(self) -> str:
        """Begin to sign in, and return where the provider sends the browser back to."""
        begun = await self.http.get(START)
        assert begun.status_code == 303, begun.text
        sent = await self.elsewhere.get(begun.headers["location"])
        assert sent.status_code == 303, sent.text
        back = urlsplit(sent.headers["location"])
        assert f"{back.scheme}://{back.netloc}{back.path}" == REDIRECT
        return f"{back.path}?{back.query}"

    async def sign_in(self) -> httpx.Response:
        return await self.http.get(await self.leave())


@pytest.fixture
async def browser(wide_front: Front, issuer: Issuer) -> AsyncIterator[Browser]:
    """Return a browser before a front door that lets in example.org."""
    async with httpx.AsyncClient() as provider_client, httpx.AsyncClient() as elsewhere:
        options = ProviderOptions(issuer.url, CLIENT, SECRET, REDIRECT)
        state = wide_front.state
        state.provider = Provider(options, provider_client)
        state.joining = Joining(
            domains=["example.org"], role="developer", organisation_id=DEFAULT_ORGANISATION
        )
        async with wide_front.client() as http:
            yield Browser(wide_front, issuer, http, elsewhere)


async def count(front: Front, table: str) -> int:
    async with transaction(front.system.database) as connection:
        return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def test_somebody_new_becomes_a_member(browser: Browser) -> None:
    """Of an allowed domain, in the role that is set; the next time it is the same account."""
    answer = await browser.sign_in()
    assert answer.status_code == 200, answer.text
    async with browser.front.client(answer.json()["access_token"]) as http:
        me = (await http.get("/api/v1/auth/me")).json()
    assert (me["email"], me["role"]) == ("ann@example.org", "developer")
    before = await count(browser.front, "users")
    # By then with another address: the provider's id is what counts.
    browser.issuer.claims = {"email": "ann.new@elsewhere.org", "email_verified": False}
    assert (await browser.sign_in()).status_code == 200
    assert await count(browser.front, "users") == before
    async with transaction(browser.front.system.database) as connection:
        query = "SELECT count(*) FROM audit WHERE action = 'member.join'"
        assert (await connection.execute(text(query))).scalar_one() == 1


async def test_an_account_is_found_by_its_verified_address(browser: Browser) -> None:
    """Who an administrator has made a member keeps the role, whatever the domain."""
    root = browser.front.root
    await browser.front.identity.add_member(
        root, email="bob@partner.org", name="Bob", role="approver", password=PASSWORD
    )
    browser.issuer.claims = {"email": "bob@partner.org", "sub": "bob"}
    answer = await browser.sign_in()
    assert answer.status_code == 200, answer.text
    async with browser.front.client(answer.json()["access_token"]) as http:
        assert (await http.get("/api/v1/auth/me")).json()["role"] == "approver"
    # Somebody else gets the address later: the account is not theirs.
    browser.issuer.claims = {"email": "bob@partner.org", "sub": "another"}
    assert (await browser.sign_in()).status_code == 401


WRONG: dict[str, dict[str, Any]] = {
    "nonce": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "issuer": {"claims": {"iss": "https://evil.example.org"}},
    "audience": {"claims": {"aud": "another"}},
    "several audiences": {"claims": {"aud": [CLIENT, "another"]}},
    "another authorized party": {"claims": {"azp": "another"}},
    "expired": {"claims": {"exp": int(time.time()) - 3600}},
    "no expiry": {"claims": {"exp": None}},
    "not yet valid": {"claims": {"nbf": int(time.time()) + 3600}},
    "another's signature": {"key": OTHER_KEY},
    "unknown key": {"kid": "two"},
    "algorithm none": {"key": None, "algorithm": "none"},
    "a secret that is published": {"key": b"secret" * 10, "algorithm": "HS256", "kid": "secret"},
    "unverified address": {"claims": {"email_verified": False}},
    "address verified by a word": {"claims": {"email_verified": "true"}},
    "no address": {"claims": {"email": None}},
    "an address that is none": {"claims": {"email": "ann example.org"}},
    "an address that is a list": {"claims": {"email": ["ann@example.org"]}},
    "a subject that cannot be stored": {"claims": {"sub": "a\0b"}},
    "another domain": {"claims": {"email": "eve@evil.org"}},
    "a domain that ends alike": {"claims": {"email": "eve@evil-example.org"}},
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_wrong_token_signs_nobody_in(browser: Browser, how: str) -> None:
    """401, no account, no session; and the same sign-in cannot be tried again."""
    for name, value in WRONG[how].items():
        setattr(browser.issuer, name, value)
    users, sessions = await count(browser.front, "users"), await count(browser.front, "sessions")
    path = await browser.leave()
    answer = await browser.http.get(path)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), answer.text
    assert (await browser.http.get(path)).status_code == 401
    assert (await count(browser.front, "users"), await count(browser.front, "sessions")) == (users, sessions)


async def test_the_public_key_is_no_secret(browser: Browser) -> None:
    """A token that is signed with the public key's text, as if it were a shared secret, is refused."""
    public = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import base64
    import hashlib
    import hmac
    import json

    def part(value: Any) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    def forged(asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": browser.issuer.url, "sub": "eve", "aud": CLIENT, "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], "email": "eve@example.org", "email_verified": True}
        signed = part({"alg": "HS256", "kid": "one"}) + b"." + part(claims)
        mac = base64.urlsafe_b64encode(hmac.digest(public, signed, hashlib.sha256)).rstrip(b"=")
        return (signed + b"." + mac).decode()

    browser.issuer.token = forged  # type: ignore[method-assign]
    assert (await browser.sign_in()).status_code == 401


async def test_a_state_is_good_once_and_in_its_browser(browser: Browser) -> None:
    """Replayed, made up, too old, or brought by another browser: 401."""
    path = await browser.leave()
    assert (await browser.http.get(path)).status_code == 200
    assert (await browser.http.get(path)).status_code == 401
    fresh = await browser.leave()
    async with browser.front.client() as another:
        assert (await another.get(fresh)).status_code == 401
    assert (await browser.http.get(fresh)).status_code == 401  # it is spent all the same
    state = parse_qs(urlsplit(await browser.leave()).query)["state"][0]
    assert (await browser.http.get(CALLBACK, params={"state": state, "error": "denied"})).status_code == 401
    assert (await browser.http.get(CALLBACK, params={"state": "x", "code": "y"})).status_code == 401
    old = await browser.leave()
    async with transaction(browser.front.system.database) as connection:
        await connection.execute(text("UPDATE sign_ins SET created_at = now() - interval '11 minutes'"))
    assert (await browser.http.get(old)).status_code == 401


async def test_a_stolen_code_is_worth_nothing(browser: Browser) -> None:
    """Another browser's sign-in cannot use it: the provider asks for the secret that it began with."""
    stolen = parse_qs(urlsplit(await browser.leave()).query)["code"][0]
    state = parse_qs(urlsplit(await browser.leave()).query)["state"][0]
    answer = await browser.http.get(CALLBACK, params={"state": state, "code": stolen})
    assert answer.status_code == 401


async def test_keys_are_renewed_when_a_new_one_comes(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And unknown ones do not make the service ask at every request."""
    assert (await browser.sign_in()).status_code == 200
    browser.issuer.kids, browser.issuer.kid = ["one", "two"], "two"
    assert (await browser.sign_in()).status_code == 401
    assert browser.issuer.fetched == 1
    monkeypatch.setattr("phoenix.api.provider.RENEW_SECONDS", 0.0)
    assert (await browser.sign_in()).status_code == 200
    assert browser.issuer.fetched == 2


async def test_a_provider_that_is_away_is_said(browser: Browser) -> None:
    """503, and nothing is kept."""
    options = ProviderOptions("http://127.0.0.1:1", CLIENT, SECRET, REDIRECT)
    async with httpx.AsyncClient() as client:
        browser.front.state.provider = Provider(options, client)
        answer = await browser.http.get(START)
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert await count(browser.front, "sign_ins") == 0


async def test_without_a_provider_there_is_nothing(wide_front: Front) -> None:
    """404, and what to set."""
    async with wide_front.client() as http:
        for path in (START, CALLBACK):
            answer = await http.get(path)
            assert (answer.status_code, "PHOENIX_OIDC_ISSUER" in answer.json()["hint"]) == (404, True)


def test_secrets_go_over_tls_only() -> None:
    """But for what stays on this machine."""
    assert check_address("https://id.example.org", "x")
    assert check_address("http://127.0.0.1:9", "x")
    for url in (
        "http://id.example.org",
        "ftp://id.example.org",
        "id.example.org",
        "http://127.0.0.1.evil.org",
    ):
        with pytest.raises(SettingInvalid):
            check_address(url, "x")
