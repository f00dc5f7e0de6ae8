"""The real application over a real database, spoken to as a client would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import uvicorn
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import insert

from phoenix.api.app import ApiOptions, Parts, create_app
from phoenix.api.rates import Rates
from phoenix.api.sources import Sources, no_model
from phoenix.api.tokens import SigningKeys, Tokens
from phoenix.domain.identity import Principal, Role
from phoenix.domain.project import Request
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.identity import Identity
from phoenix.engine.memories import Memories
from phoenix.engine.upkeep import Upkeep
from phoenix.events.shared import SharedEventLog
from phoenix.flow import step
from phoenix.memory.in_memory import MemoryVectors
from phoenix.ports import Sandboxes
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.storage.database import transaction
from phoenix.storage.tables import organisations
from phoenix.telemetry.logs import configure_logs
from phoenix.workspace.reading import ProjectCode
from phoenix.workspace.repository import GitWorkspace
from tests.integration.engine.engine_toy import FLOWS as TOYS
from tests.integration.engine.engine_toy import System, open_system

PASSWORD = "correct horse battery"
RATE = 200
UNCOUNTED = "100000000/minute"
KEYS = SigningKeys("one", {"one": b"k" * 64})


@step
async def take(request: Request) -> Request:
    """Stand for the development workflow, which these tests only launch."""
    return request


FLOWS = {**TOYS, "develop": take}


@dataclass
class Front:
    """A running front door, and who may come in."""

    system: System
    app: Any
    identity: Identity
    tokens: Tokens
    root: Principal
    events: SharedEventLog
    parts: Parts
    options: ApiOptions

    def replica(self, rates: Rates) -> Front:
        """Return one more process's front door, over the same database, that counts requests so."""
        return replace(self, app=create_app(replace(self.parts, rates=rates), self.options))

    @property
    def state(self) -> Any:
        """What the application serves, to be replaced by a test."""
        inner = self.app
        while not isinstance(inner, FastAPI):
            inner = inner.app
        return inner.state

    def app_tails(self) -> int:
        """Return how many projects are being read."""
        return len(self.events._tails)

    def client(self, token: str = "", **headers: str) -> AsyncClient:
        """Return a client with these credentials."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        transport = ASGITransport(self.app, raise_app_exceptions=False)
        return AsyncClient(transport=transport, base_url="http://phoenix", headers=headers)

    async def member(self, role: Role, *, organisation_id: UUID = DEFAULT_ORGANISATION) -> str:
        """Make a member and return an access token."""
        email = f"{role}-{uuid4().hex[:6]}@example.org"
        root = self.root.model_copy(update={"organisation_id": organisation_id})
        await self.identity.add_member(root, email=email, name=role, role=role, password=PASSWORD)
        return self.tokens.issue(await self.identity.sign_in(email, PASSWORD))

    async def organisation(self) -> UUID:
        """Make another organisation."""
        organisation_id = uuid4()
        async with transaction(self.system.database) as connection:
            await connection.execute(
                insert(organisations).values(id=organisation_id, name=str(organisation_id))
            )
        return organisation_id


@pytest.fixture(autouse=True)
def _plain_logs() -> None:
    """Log as the product does: drawn tracebacks with all locals, the default, take seconds."""
    configure_logs("error")


def upkeep_of(system: System) -> Upkeep:
    """Return what deletes projects of a system."""
    return Upkeep(
        database=system.database,
        queue=system.queue,
        checkpointer=system.saver,
        workspace_of=lambda project: GitWorkspace(system.folder / "projects" / str(project.id), "x"),
        provisioner=WheelProvisioner(system.folder / "environments", cast("Sandboxes", None)),
        retention_days=0,
        environment_days=0,
    )


@asynccontextmanager
async def open_front(url: str, folder: Path, options: ApiOptions) -> AsyncIterator[Front]:
    """Open a front door over a migrated database, whose worker does not run."""
    async with open_system(url, folder, FLOWS) as system:
        identity, tokens = Identity(system.database), Tokens(KEYS)
        key = await identity.first_admin(DEFAULT_ORGANISATION, "root@example.org")
        assert key is not None
        sources = Sources(no_model, is_local=False)
        events = SharedEventLog(system.engine.log)
        parts = Parts(
            engine=system.engine,
            database=system.database,
            identity=identity,
            tokens=tokens,
            rates=Rates(),
            sources=sources,
            events=events,
            code=ProjectCode(folder / "projects"),
            upkeep=upkeep_of(system),
            memories=Memories(system.database, MemoryVectors()),
        )
        app = create_app(parts, options)
        root = await identity.of_key(key)
        yield Front(system, app, identity, tokens, root, events, parts, options)


@pytest.fixture
async def front(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Return a front door whose worker does not run."""
    options = ApiOptions(rate_limit=f"{RATE}/minute", webhook_allow=("127.0.0.0/8",))
    async with open_front(migrated_database_url, tmp_path, options) as opened:
        yield opened


@pytest.fixture
async def wide_front(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[Front]:
    """Return a front door that counts no requests."""
    options = ApiOptions(rate_limit=UNCOUNTED, sign_in_limit=UNCOUNTED)
    async with open_front(migrated_database_url, tmp_path, options) as opened:
        yield opened


class Served:
    """The front door on a port of this machine, for what a transport in memory cannot show."""

    def __init__(self, front: Front, port: int) -> None:
        self.front = front
        self.port = port

    def client(self, token: str = "", **headers: str) -> AsyncClient:
        """Return a client with these credentials."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return AsyncClient(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=20)


@pytest.fixture
async def served(front: Front) -> AsyncIterator[Served]:
    """Serve the front door; stop it at the end."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(front.app, log_config=None, lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield Served(front, listening.getsockname()[1])
        server.should_exit = server.force_exit = True
        await running
