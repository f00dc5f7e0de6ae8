"""API keys of services, and `phoenix login`, which keeps one."""

from __future__ import annotations

import getpass
import json
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from phoenix.errors import InputError, SettingInvalid, Unauthenticated
from phoenix.telemetry.redaction import know

if TYPE_CHECKING:
    from phoenix.settings import Settings

KEYS_FILE = "api-keys.json"
"""In the data folder: keys by the address of their service. A key is sent to no other."""
MAX_KEY_CHARS = 512


def key_for(settings: Settings, url: str) -> str:
    """Return the key for a service: the one that is set, else the one that was kept.

    Raises:
        Unauthenticated: there is none.
        SettingInvalid: it is no key, or others can read where it is kept.
    """
    if settings.api_key is not None:
        return checked_key(settings.api_key.get_secret_value())
    found = kept_keys(settings.home).get(url)
    if found is None:
        raise Unauthenticated(
            f"There is no API key for {url}.",
            hint=f"Set PHOENIX_API_KEY, or keep one with: phoenix login --server {url}",
        )
    return checked_key(found)


def checked_key(text: str) -> str:
    """Return a key without the blanks around it.

    Raises:
        SettingInvalid: it cannot be one.
    """
    key = text.strip()
    if not key or len(key) > MAX_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingInvalid("This is no API key.", field="PHOENIX_API_KEY")
    know(key)
    return key


def kept_keys(home: Path) -> dict[str, str]:
    """Return the keys that were kept, by the address of their service.

    Raises:
        SettingInvalid: others can read or change them, or they cannot be read.
    """
    path = home / KEYS_FILE
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingInvalid(f"{path} cannot be read: {error.strerror}.") from error
    with os.fdopen(fd, encoding="utf-8") as file:
        about = os.fstat(fd)
        if about.st_uid != os.geteuid() or stat.S_IMODE(about.st_mode) & 0o077:
            raise SettingInvalid(
                f"{path} is not yours alone, so its keys are not used.", hint=f"Make it so: chmod 600 {path}"
            )
        try:
            found = json.load(file)
        except ValueError as error:
            raise SettingInvalid(f"{path} holds no keys.", hint="Remove it, and sign in again.") from error
    return {str(url): str(key) for url, key in found.items()} if isinstance(found, dict) else {}


def keep_key(home: Path, url: str, key: str) -> None:
    """Keep a key where only its owner can read it, in place of an older one for the service."""
    home.mkdir(parents=True, exist_ok=True)
    content = json.dumps(kept_keys(home) | {url: key}, indent=2)
    beside = home / f"{KEYS_FILE}.{os.getpid()}"
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(content)
        beside.replace(home / KEYS_FILE)
    finally:
        with suppress(FileNotFoundError):
            beside.unlink()


async def login(*, server: str = "") -> int:
    """Ask for a key, try it, and keep it for its service."""
    import typer

    from phoenix.cli.connection import open_client, service_url
    from phoenix.cli.session import open_settings

    settings = open_settings(server=server)
    if not settings.server:
        raise InputError("At which service?", field="--server", hint="Name its address: --server URL")
    url = service_url(settings.server)
    key = checked_key(_asked(url))
    async with open_client(url, key) as client:
        me = await client.me()
    keep_key(settings.home, url, key)
    typer.echo(f"signed in at {url} as {me.email} ({me.role})")
    return 0


def _asked(url: str) -> str:
    """Return the key that is typed, unseen, or comes on standard input."""
    if sys.stdin.isatty():
        return getpass.getpass(f"API key for {url}: ")
    return sys.stdin.readline()
