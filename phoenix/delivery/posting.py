"""Post to an address that a user named, from inside a network that the user must not reach.

A name is looked up once, every address that it has is checked, and the connection goes to a checked one: a
name that answers otherwise the second time (rebinding) gains nothing, since there is no second time. TLS
verifies the name all the same. `httpcore` alone, below `httpx`, follows no redirect, reads no proxy from the
environment, and decompresses nothing.
"""

from __future__ import annotations

import asyncio
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import httpcore

from phoenix import __version__
from phoenix.domain.addresses import Address, Allowed
from phoenix.domain.webhook import Received
from phoenix.errors import AddressRefused
from phoenix.telemetry.redaction import mask_secrets

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 15.0
"""From the lookup of the name to the last byte of the answer."""
READ_BYTES = 16_384
KEPT_CHARS = 1_000
"""Of an answer, for the log of deliveries."""
CONNECTIONS = 64

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host."""


async def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the machine's resolver has them.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class GuardedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only.

    Args:
        allowed: What is let through besides public addresses.
        resolve: Looks names up.
        encrypted: Connections are to carry TLS.
    """

    def __init__(self, allowed: Allowed, resolve: Resolve, *, encrypted: bool) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._encrypted = encrypted
        self._below = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers.

        Raises:
            AddressRefused: one of its addresses is not one that is connected to.
            httpcore.ConnectError: it has none, or none answers.
        """
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._checked(host, port):
            try:
                return await self._below.connect_tcp(
                    str(address), port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _checked(self, host: str, port: int) -> list[Address]:
        try:
            found = await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be looked up: {error}") from error
        # All of them, before any is used: half a public name is none.
        return [self._allowed.check(host, ip_address(text), encrypted=self._encrypted) for text in found]

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL names one.

        Raises:
            AddressRefused: always.
        """
        raise AddressRefused(f"{path} is a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._below.sleep(seconds)


class Poster:
    """Posts within bounds of time and size; what goes wrong is in what it returns.

    Args:
        allowed: Addresses and hosts that are let through although they are not public.
        resolve: Looks names up.
        connect_seconds: How long a connection may take.
        whole_seconds: How long all of it may take.
        tls: What certificates are verified by; the public authorities where left out.
    """

    def __init__(
        self,
        allowed: Allowed,
        *,
        resolve: Resolve = look_up,
        connect_seconds: float = CONNECT_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._connect_seconds = connect_seconds
        self._whole_seconds = whole_seconds
        self._tls = tls or _authorities()

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Post a body of JSON."""
        try:
            # What was allowed when the URL was given may not be now.
            self._allowed.check_url(url)
            async with asyncio.timeout(self._whole_seconds):
                return await self._post(url, headers, body)
        except TimeoutError:
            return Received(error=f"It took longer than {self._whole_seconds:g} s.")
        except AddressRefused as error:
            return Received(error=f"refused: {error.message}")
        except httpcore.TimeoutException as error:
            return Received(error=f"{_words(error)} after {self._connect_seconds:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            return Received(error=f"{_words(error)}: {error}"[:KEPT_CHARS])

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Received:
        parts = urlsplit(url)
        network = GuardedNetwork(self._allowed, self._resolve, encrypted=parts.scheme == "https")
        given = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "User-Agent": f"Phoenix/{__version__}",
            "Accept-Encoding": "identity",
            "Connection": "close",
            **headers,
        }
        timeouts = {"connect": self._connect_seconds, "read": self._whole_seconds}
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=network) as pool,
            pool.stream(
                "POST", url, headers=[*given.items()], content=body, extensions={"timeout": timeouts}
            ) as got,
        ):
            text = await _beginning(got)
            answered = {name.lower(): value for name, value in got.headers}
            return Received(
                status=got.status,
                body=text,
                error="" if 200 <= got.status < 300 else _refusal(got.status),
                after_seconds=retry_after(answered.get(b"retry-after", b"").decode("latin-1")),
            )


def _authorities() -> ssl.SSLContext:
    context = httpcore.default_ssl_context()
    # Besides the public ones those that the machine trusts.
    context.load_default_certs()
    return context


async def _beginning(got: httpcore.Response) -> str:
    """Return the beginning of an answer for people, and leave the rest unread."""
    read = b""
    async for chunk in got.aiter_stream():
        read += chunk
        if len(read) >= READ_BYTES:
            break
    return mask_secrets(read[:READ_BYTES].decode(errors="replace"))[0][:KEPT_CHARS]


def _refusal(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}: redirects are not followed."
    return f"The receiver answered {status}."


def _words(error: Exception) -> str:
    """Return an error's kind as words: `ConnectError` is `connect error`."""
    name = type(error).__name__
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def retry_after(text: str) -> float:
    """Return how many seconds a Retry-After asks for; 0 when it asks for none that can be read."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, math.ceil((moment - datetime.now(UTC)).total_seconds()))
