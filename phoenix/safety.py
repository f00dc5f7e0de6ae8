"""What may not be set together. A setting that is unsafe in production stops the start, with its name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from phoenix.configuration.fields import is_secret, outside_name
from phoenix.errors import SettingInvalid
from phoenix.settings import Settings

SHORTEST_SECRET = 12
PLACEHOLDERS = frozenset(
    {
        *(
            "admin",
            "change",
            "changeme",
            "change-me",
            "change_me",
            "changethis",
            "default",
            "example",
            "guest",
        ),
        *("none", "pass", "passw0rd", "password", "phoenix", "postgres", "redis", "replaceme", "replace-me"),
        *("root", "secret", "test", "todo", "token", "xxx", "your-api-key", "your-key", "your-secret"),
    }
)
"""What stands in examples, or comes first to mind."""


def unsafe(settings: Settings, *, serves: bool, works: bool) -> Iterator[tuple[str, str, str]]:
    """Give what is unsafe in production: the setting, what is wrong with it, and what to do.

    Args:
        settings: What was set.
        serves: Whether this process serves HTTP to others.
        works: Whether it executes projects' code.
    """
    if settings.environment != "production":
        return
    if works and settings.sandbox == "host":
        yield (
            "PHOENIX_SANDBOX",
            "`host` lets what models write act as this process, beside everybody's projects and keys.",
            "Take auto, bubblewrap, sandlock, docker or kubernetes.",
        )
    yield from _weak(settings)
    if serves:
        yield from _open_door(settings)


def check_safe(settings: Settings, *, serves: bool, works: bool) -> None:
    """Refuse what is unsafe in production.

    Raises:
        SettingInvalid: something is; names the first, and counts the others.
    """
    found = list(unsafe(settings, serves=serves, works=works))
    if found:
        name, said, hint = found[0]
        more = f" There is more: {', '.join(other for other, _, _ in found[1:])}." if found[1:] else ""
        raise SettingInvalid(f"unsafe in production: {said}{more}", field=name, hint=hint)


def _weak(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Give secrets that others know, or can guess."""
    hint = "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    for name, info in Settings.model_fields.items():
        value = getattr(settings, name) if is_secret(info) else None
        if value is None or not value.get_secret_value():
            continue
        said, text = outside_name(name, info), value.get_secret_value()
        if name not in {"database_url", "redis_url"}:
            if _is_known(text):
                yield said, "it is no secret but what stands in examples.", hint
            continue
        if reason := _weak_password(text):
            yield said, reason, hint


def _weak_password(url: str) -> str:
    """Say what is wrong with the password in a server's URL; nothing of one on this machine's own sockets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    except ValueError:
        return ""  # no URL at all: whoever connects says so
    if not host or host.startswith("/") or is_loopback(host):
        return ""
    given = unquote(parts.password or "") or parse_qs(parts.query).get("password", [""])[0]
    query = parse_qs(parts.query)
    if not given and ({"passfile", "sslcert", "service"} & set(query)):
        return ""
    if not given:
        return "its server asks for no password."
    if _is_known(given) or given == unquote(parts.username or "") or len(given) < SHORTEST_SECRET:
        return f"its password can be guessed: it is usual, or shorter than {SHORTEST_SECRET} characters."
    return ""


def _is_known(text: str) -> bool:
    bare = text.strip().strip("<>").lower()
    return bare in PLACEHOLDERS or bare.removeprefix("sk-") in PLACEHOLDERS or len(set(bare)) < 3


def _open_door(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Give what lets strangers in, or lets them listen."""
    if not settings.tls and not is_loopback(settings.host):
        yield (
            "PHOENIX_TLS",
            f"the service listens at {settings.host} and clients may reach it without TLS, so that keys and"
            " passwords can be read on the way.",
            "End TLS in front of it and set PHOENIX_TLS=true, or listen at 127.0.0.1.",
        )
    if settings.public_url and urlsplit(settings.public_url).scheme != "https":
        yield "PHOENIX_PUBLIC_URL", "browsers are sent there without TLS.", "Give an https address."
    if settings.local_sources:
        yield (
            "PHOENIX_LOCAL_SOURCES",
            "every client may name folders of this machine, and read what is in them.",
            "Leave it out; `phoenix new` in a process of its own takes folders all the same.",
        )
    if "*" in settings.cors_origins:
        yield (
            "PHOENIX_CORS_ORIGINS",
            "`*` lets every web page that a user opens call the service.",
            "Name the origins.",
        )
    if any(_is_all(network) for network in settings.webhook_allow):
        yield (
            "PHOENIX_WEBHOOK_ALLOW",
            "it holds every address, so that webhooks reach this network's own services.",
            "Name the networks that they are for.",
        )


def _is_all(network: str) -> bool:
    try:
        return ipaddress.ip_network(network, strict=False).prefixlen == 0
    except ValueError:
        return network == "*"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
