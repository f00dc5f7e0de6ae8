"""Access tokens: what is signed here is read, and nothing else."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import jwt
import pytest

from phoenix.api.tokens import AUDIENCE, ISSUER, SigningKeys, Tokens
from phoenix.engine.identity import KEY_MARK, Opened, mint, read_credential
from phoenix.errors import Unauthenticated

KEY = b"k" * 64
OTHER = b"o" * 64
KEYS = SigningKeys("one", {"one": KEY})


def opened() -> Opened:
    return Opened(uuid4(), uuid4(), uuid4(), "")


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a good token, changed."""
    now = int(time.time())
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(uuid4()),
        "sid": str(uuid4()),
        "org": str(uuid4()),
        "iat": now,
        "exp": now + 60,
        "jti": "x",
    }
    return {name: value for name, value in (good | changed).items() if value is not None}


def signed(key: Any = KEY, algorithm: str = "HS256", kid: str = "one", **changed: Any) -> str:
    return jwt.encode(claims(**changed), key, algorithm=algorithm, headers={"kid": kid})


async def test_an_issued_token_names_its_session() -> None:
    """What is issued is read back."""
    tokens = Tokens(KEYS)
    session = opened()
    assert await tokens.read(tokens.issue(session)) == session.session_id


def tampered() -> str:
    """Return a token whose claims were changed after it was signed."""
    head, _, signature = signed().split(".")
    return ".".join([head, signed(OTHER, sub="admin").split(".")[1], signature])


BAD = {
    "expired": lambda: signed(exp=int(time.time()) - 60),
    "not yet": lambda: signed(iat=int(time.time()) + 600),
    "forged": lambda: signed(OTHER),
    "none": lambda: jwt.encode(claims(), None, algorithm="none", headers={"kid": "one"}),
    "another algorithm": lambda: signed(algorithm="HS512"),
    "unknown key": lambda: signed(kid="two"),
    "no key id": lambda: jwt.encode(claims(), KEY, algorithm="HS256"),
    "wrong audience": lambda: signed(aud="somebody"),
    "no audience": lambda: signed(aud=None),
    "wrong issuer": lambda: signed(iss="somebody"),
    "no session": lambda: signed(sid=None),
    "session of another form": lambda: signed(sid="1; DROP TABLE sessions"),
    "no end": lambda: signed(exp=None),
    "cut": lambda: signed()[:-4],
    "tampered": tampered,
    "no token": lambda: "hello",
    "empty parts": lambda: "..",
    "not ascii": lambda: "é.é.é",
}


@pytest.mark.parametrize("case", BAD, ids=list(BAD))
async def test_any_other_token_is_refused(case: str) -> None:
    """Expired, forged, for somebody else, or no token at all: 401."""
    with pytest.raises(Unauthenticated):
        await Tokens(KEYS).read(BAD[case]())


async def test_a_new_key_is_found_when_a_token_names_it() -> None:
    """Keys are rotated without a restart; an unknown one makes no storm of reads."""
    reads = 0

    async def reload() -> SigningKeys:
        nonlocal reads
        reads += 1
        return SigningKeys("two", {"one": KEY, "two": OTHER})

    tokens = Tokens(KEYS, reload)
    await tokens.read(signed(OTHER, kid="two"))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await tokens.read(signed(OTHER, kid="three"))
    assert reads == 1
    assert await tokens.read(tokens.issue(opened()))


def test_a_credential_is_read_back() -> None:
    """Id and secret survive the text, whatever the secret holds."""
    for _ in range(50):
        credential_id, text, secret_hash = mint(KEY_MARK)
        assert read_credential(KEY_MARK, text) == (credential_id, secret_hash)


@pytest.mark.parametrize(
    "text", ["", "phx_key", "phx_key_", "phx_key_zz_yy", "phx_refresh_00_x", "phx_key_é_x"]
)
def test_what_is_no_credential_is_refused(text: str) -> None:
    """A clear error instead of a crash."""
    with pytest.raises(Unauthenticated):
        read_credential(KEY_MARK, text)
