"""Secrets read anew from their stores while a process runs, in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

from phoenix.configuration.live import LiveSecret
from phoenix.configuration.stores import Stores
from phoenix.errors import SecretUnavailable, SettingInvalid
from phoenix.telemetry.redaction import know

log = structlog.get_logger(__name__)

Changed = Callable[[Collection[str]], None]


async def renew(secrets: Mapping[str, LiveSecret], stores: Stores) -> set[str]:
    """Read secrets anew and take in what their stores say. Returns which have other values now.

    Each is read for itself, so that one that fails keeps no other from being renewed; a secret that fails
    keeps its value until it is too old.
    """
    changed = set()
    for name, secret in secrets.items():
        try:
            found = await asyncio.to_thread(stores.read_all, {secret.said: secret.reference})
        except (SettingInvalid, SecretUnavailable) as error:
            age = round(secret.age_seconds)
            log.warning("secret_not_renewed", setting=secret.said, age_seconds=age, reason=error.message)
            continue
        know(found[secret.said])
        if secret.renew(found[secret.said]):
            log.info("secret_renewed", setting=secret.said)
            changed.add(name)
    return changed


@asynccontextmanager
async def renewing(
    secrets: Mapping[str, LiveSecret], stores: Stores, *, seconds: float, changed: Changed
) -> AsyncIterator[None]:
    """Renew secrets every so many seconds while the body runs; 0 never does.

    Args:
        secrets: The secrets, by name.
        stores: Where they are read.
        seconds: How often.
        changed: Told the names of those that have other values; what it raises ends the renewing.
    """
    if not secrets or not seconds:
        yield
        return

    async def again() -> None:
        while True:
            await asyncio.sleep(seconds)
            names = await renew(secrets, stores)
            if names:
                changed(names)

    task = asyncio.create_task(again(), name="renew secrets")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
