"""Access tokens: short-lived JWTs that name a session. What its user may do is read from the database."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import jwt

from phoenix.engine.identity import Opened
from phoenix.errors import Unauthenticated

ALGORITHM = "HS256"
ISSUER = "phoenix"
AUDIENCE = "phoenix-api"
ACCESS_SECONDS = 3600
LEEWAY_SECONDS = 5
"""How far the clocks of two machines may be apart."""

REQUIRED = ["iss", "aud", "sub", "sid", "org", "exp", "iat", "jti"]


@dataclass(frozen=True)
class SigningKeys:
    """Secrets by key id. New tokens are signed with `current`; the others are still accepted."""

    current: str
    secrets: Mapping[str, bytes]


class Tokens:
    """Issues and reads access tokens.

    Args:
        keys: The keys at start.
        reload: Reads them anew when a token names one that is unknown; at most every few seconds.
        issuer: Goes into `iss`.
        seconds: How long a token is good for.
    """

    RELOAD_SECONDS = 5.0

    def __init__(
        self,
        keys: SigningKeys,
        reload: Callable[[], Awaitable[SigningKeys]] | None = None,
        *,
        issuer: str = ISSUER,
        seconds: int = ACCESS_SECONDS,
    ) -> None:
        self._keys = keys
        self._reload = reload
        self._reloaded = 0.0
        self.issuer = issuer
        self.seconds = seconds

    def issue(self, opened: Opened) -> str:
        """Return an access token of a session."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": str(opened.user_id),
            "sid": str(opened.session_id),
            "org": str(opened.organisation_id),
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid4().hex,
        }
        key = self._keys.secrets[self._keys.current]
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": self._keys.current})

    async def read(self, token: str) -> UUID:
        """Return the session that a token names.

        Raises:
            Unauthenticated: it is forged, expired, for somebody else, or no token at all.
        """
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            claims = self._decode(token, await self._key(kid))
            return UUID(str(claims["sid"]))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("This token has expired.", hint="Refresh it.") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated("This is no valid token.", hint="Sign in again.") from error

    def _decode(self, token: str, key: bytes) -> dict[str, Any]:
        return dict(
            jwt.decode(
                token,
                key,
                # Never what the token itself asks for.
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=self.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )
        )

    async def _key(self, kid: str) -> bytes:
        is_due = time.monotonic() - self._reloaded > self.RELOAD_SECONDS
        if kid not in self._keys.secrets and self._reload is not None and is_due:
            self._reloaded = time.monotonic()
            self._keys = await self._reload()
        if kid not in self._keys.secrets:
            raise jwt.InvalidKeyError("unknown key")
        return self._keys.secrets[kid]
