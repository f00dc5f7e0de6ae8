"""What a command speaks to: a service that runs somewhere, or one inside the command's own process."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from phoenix.cli.output import say
from phoenix.errors import SettingInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from phoenix.bootstrap import System
    from phoenix.client.api import Client
    from phoenix.engine.launch import Overview
    from phoenix.flow.algebra import Flow
    from phoenix.settings import Settings

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
OWN_PATIENCE_SECONDS = 30.0
"""A database that does not answer for so long is taken for gone."""
PATIENCE_SECONDS = 120.0
"""How long a service that has answered may be away: it may be restarted meanwhile."""
OWN_PLACE = "this process"


@dataclass(frozen=True)
class Connection:
    """A service, and what is known of it beyond its answers when it runs in this process."""

    client: Client
    system: System | None = None

    @property
    def own(self) -> System:
        """What runs in this process, for commands that a service elsewhere refuses."""
        assert self.system is not None
        return self.system

    @property
    def sandbox(self) -> str:
        """The kind of sandbox of the work done here; empty when it is done elsewhere."""
        return self.system.sandbox if self.system else ""

    @property
    def paused(self) -> str:
        """Why this process takes no runs now, for people; empty when it does, or never would."""
        return self.system.engine.paused if self.system else ""

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work on what is due beside the body; a service elsewhere has workers of its own."""
        if self.system is None:
            yield
            return
        async with self.system.engine.worker():
            yield


@asynccontextmanager
async def open_connection(
    settings: Settings,
    *,
    execution: bool = True,
    record: Path | None = None,
    flows: Mapping[str, Flow[Any, Any]] | None = None,
    types: Collection[type] = (),
) -> AsyncIterator[Connection]:
    """Connect to the service that is named, or start one in this process.

    Args:
        settings: What was set.
        execution: Whether this process may execute projects' code; see `open_system`.
        record: File that model traffic is recorded to.
        flows: More flows, by name.
        types: More models that may be in checkpoints.

    Raises:
        SettingInvalid, Unauthenticated: the service's address or the key is missing or wrong.
        PhoenixError: see `open_system`.
    """
    if settings.server:
        async with _open_service(settings) as client:
            yield Connection(client)
        return
    from phoenix.bootstrap import open_system

    opened = open_system(settings, execution=execution, record=record, flows=flows, types=types)
    async with opened as system, _open_own(system) as client:
        yield Connection(client, system)


@asynccontextmanager
async def open_project(
    settings: Settings, prefix: str, *, execution: bool = True, record: Path | None = None
) -> AsyncIterator[tuple[Connection, Overview]]:
    """Connect to what knows a project's flow, also one of the user's own, and find the project.

    Raises:
        NotFound: no project's id begins so, or several do.
    """
    async with open_connection(settings, execution=execution, record=record) as connection:
        overview = await connection.client.find(prefix)
        flow = overview.run.flow
        # What a service elsewhere calls a flow names no file of this machine.
        if ":" not in flow or connection.system is None:
            yield connection, overview
            return
    from phoenix.workflows.loading import load_flow

    loaded = load_flow(flow)
    async with open_connection(
        settings, execution=execution, record=record, flows={flow: loaded.flow}, types=loaded.types
    ) as connection:
        yield connection, overview


@asynccontextmanager
async def _open_own(system: System) -> AsyncIterator[Client]:
    """Serve a system to this process alone, as an administrator without an account."""
    import httpx

    from phoenix.api.access import local_user
    from phoenix.cli.gates import who
    from phoenix.client.api import Client
    from phoenix.client.in_process import InProcess
    from phoenix.door import open_door

    local = local_user(who())
    async with open_door(system, local=local) as (app, _):
        headers = {"X-API-Key": local.key, "Accept-Encoding": "identity"}
        async with httpx.AsyncClient(
            transport=InProcess(app), base_url="http://phoenix", headers=headers
        ) as http:
            yield Client(http, place=OWN_PLACE, patience_seconds=OWN_PATIENCE_SECONDS, say=say)


@asynccontextmanager
async def _open_service(settings: Settings) -> AsyncIterator[Client]:
    """Connect to the service that the settings name."""
    from phoenix.cli.credentials import key_for

    url = service_url(settings.server)
    async with open_client(url, key_for(settings, url)) as client:
        yield client


@asynccontextmanager
async def open_client(url: str, key: str) -> AsyncIterator[Client]:
    """Connect to a service with a key."""
    import httpx

    from phoenix import __version__
    from phoenix.client.api import Client

    is_here = is_loopback(url)
    if url.startswith("http:") and not is_here:
        say(f"warning: {url} is not encrypted: the key can be read on its way.")
    async with httpx.AsyncClient(
        base_url=url,
        headers={"X-API-Key": key, "User-Agent": f"phoenix/{__version__}"},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        # A proxy cannot reach this machine's own services.
        trust_env=not is_here,
    ) as http:
        yield Client(http, place=url, patience_seconds=PATIENCE_SECONDS, say=say)


def service_url(text: str) -> str:
    """Return the address of a service, as keys are kept for it.

    Raises:
        SettingInvalid: it is none.
    """
    hint = "Give one such as http://127.0.0.1:8400 or https://phoenix.example.org."
    try:
        parts = urlsplit(text.strip())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise SettingInvalid(f"{text!r} is no address of a service.", field="--server", hint=hint)
    if "@" in parts.netloc:
        raise SettingInvalid(
            "The address holds a credential.", field="--server", hint="Put the key into PHOENIX_API_KEY."
        )
    path = parts.path.rstrip("/").removesuffix("/api/v1")
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def is_loopback(url: str) -> bool:
    """Tell whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
