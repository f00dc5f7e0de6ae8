"""Which addresses on the network Phoenix connects to on a user's behalf: public ones, and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from phoenix.errors import AddressRefused, SettingInvalid

SETTING = "PHOENIX_WEBHOOK_ALLOW"
MAX_URL_CHARS = 2000

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")

NEVER: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local: 169.254.169.254 gives a machine's credentials
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/96",  # unspecified, loopback, and IPv4 as it was once embedded
        "64:ff9b::/96",  # NAT64: any IPv4 address behind it
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo and other ways to IPv4
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
"""The registries of special addresses (RFC 6890 and IANA's tables), spelt out: what `ipaddress` knows of
them differs between versions of Python."""


class Allowed:
    """What an operator lets through although it is not public.

    Args:
        entries: Networks such as `10.1.0.0/16`, addresses, and names of hosts.

    Raises:
        SettingInvalid: one of them is none of these.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        networks: list[Network] = []
        hosts: set[str] = set()
        for entry in entries:
            text = entry.strip().lower()
            try:
                networks.append(ip_network(text))
            except ValueError as error:
                if not _HOST.fullmatch(text) or "/" in text or text.replace(".", "").isdigit():
                    raise SettingInvalid(
                        f"{entry!r} is no network, address or host.",
                        field=SETTING,
                        hint='Give a JSON list such as ["10.1.0.0/16", "hooks.internal"].',
                    ) from error
                hosts.add(text.rstrip("."))
        self._networks = tuple(networks)
        self._hosts = frozenset(hosts)

    def names(self, host: str) -> bool:
        """Tell whether a host is let through by its name, or by the address that it is written as."""
        if host.lower().rstrip(".") in self._hosts:
            return True
        address = literal(host)
        return address is not None and self.holds(address)

    def holds(self, address: Address) -> bool:
        """Tell whether an address is in an allowed network."""
        return any(_inner(address) in network for network in self._networks)

    def check(self, host: str, address: Address, *, encrypted: bool) -> Address:
        """Return the address to connect to for a host.

        Raises:
            AddressRefused: it is not public, or would be spoken to in the clear, and nothing allows it.
        """
        inner = _inner(address)
        if self.names(host) or self.holds(inner):
            return inner
        if is_special(inner):
            raise AddressRefused(
                f"{host} is at {inner}, which is not a public address.",
                hint=f"Whoever runs Phoenix can allow it with {SETTING}.",
            )
        if not encrypted:
            raise AddressRefused(f"{host} would be spoken to in the clear.", hint="Use https.")
        return inner

    def check_url(self, url: str) -> str:
        """Return a URL that may be posted to, as far as can be told before its host is looked up.

        Raises:
            AddressRefused: its scheme, host or form is not one that is used.
        """
        if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
            raise AddressRefused(
                f"A URL has at most {MAX_URL_CHARS} printable ASCII characters.", field="url"
            )
        parts = _split(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or not host:
            raise AddressRefused("This is no https URL.", field="url", hint="Give https://HOST/PATH.")
        if parts.username is not None or parts.password is not None or "@" in parts.netloc:
            raise AddressRefused(
                "The URL holds credentials.", field="url", hint="The signature shows who sends."
            )
        if parts.fragment or "\\" in url:
            raise AddressRefused("The URL has a fragment, or a backslash.", field="url", hint="Leave it out.")
        address = literal(host)
        if address is None and not _HOST.fullmatch(host):
            raise AddressRefused("The URL's host has not the form of a name.", field="url")
        if parts.scheme == "http" and not self.names(host):
            raise AddressRefused(
                "Webhooks are sent over https only.",
                field="url",
                hint=f"Whoever runs Phoenix can allow a host with {SETTING}.",
            )
        if address is not None:
            try:
                self.check(host, address, encrypted=parts.scheme == "https")
            except AddressRefused as error:
                raise AddressRefused(error.message, field="url", hint=error.hint) from error
        return url


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # It is read when it is asked for.
        if parts.port == 0:
            raise ValueError("port 0")
    except ValueError as error:
        raise AddressRefused(f"This URL cannot be read: {error}.", field="url") from error
    return parts


def literal(host: str) -> Address | None:
    """Return the address that a host is written as; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _inner(address: Address) -> Address:
    """Return the IPv4 address that is written as an IPv6 one, or the address itself."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_special(address: Address) -> bool:
    """Tell whether an address is not a public one of a single host."""
    inner = _inner(address)
    return (
        any(inner in network for network in NEVER)
        or not inner.is_global
        or inner.is_multicast
        or inner.is_reserved
    )
