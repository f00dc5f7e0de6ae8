"""What is set about the front door is checked before it opens, and what it stands on is said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from httpx import ASGITransport, AsyncClient
from pydantic import SecretStr
from sqlalchemy import text

from phoenix.api.access import local_user
from phoenix.bootstrap import System, open_system
from phoenix.cli.doctor import check_database
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.door import open_door
from phoenix.errors import SettingInvalid
from phoenix.settings import Settings, load_settings
from phoenix.storage.database import transaction
from phoenix.storage.migrate import upgrade
from phoenix.telemetry.logs import configure_logs
from tests.conftest import Databases
from tests.integration.api.test_wall import owned

ISSUER = "https://id.example.org"
GOOD = {
    "oidc_issuer": ISSUER,
    "oidc_client_id": "phoenix",
    "oidc_client_secret": SecretStr("s3cret"),
    "public_url": "https://phoenix.example.org",
}
WARNED = "tenant_wall_missing"


@pytest.fixture
async def system(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    settings = Settings(home=tmp_path / "home", DATABASE_URL=SecretStr(migrated_database_url))  # type: ignore[call-arg]
    async with open_system(settings, execution=False) as opened:
        yield opened


async def opened(system: System, **settings: Any) -> None:
    """Open the front door with settings, and close it."""
    changed = replace(system, settings=system.settings.model_copy(update=settings))
    async with open_door(changed):
        pass


async def test_the_door_opens_with_a_provider_and_without(system: System) -> None:
    """A public client has no secret; a machine's own provider needs no TLS."""
    await opened(system)
    await opened(system, **GOOD)
    await opened(system, **GOOD | {"oidc_client_secret": None})
    await opened(system, **GOOD | {"oidc_issuer": "http://127.0.0.1:9000"})
    await opened(system, **GOOD | {"oidc_organisation": DEFAULT_ORGANISATION, "oidc_domains": ["a.org"]})


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (GOOD | {"oidc_client_id": ""}, "PHOENIX_OIDC_CLIENT_ID"),
        (GOOD | {"oidc_client_secret": SecretStr("")}, "PHOENIX_OIDC_CLIENT_SECRET"),
        (GOOD | {"public_url": None}, "PHOENIX_PUBLIC_URL"),
        (GOOD | {"public_url": "http://phoenix.example.org"}, "PHOENIX_PUBLIC_URL"),
        (GOOD | {"oidc_issuer": "http://id.example.org"}, "PHOENIX_OIDC_ISSUER"),
        (GOOD | {"oidc_issuer": "id.example.org"}, "PHOENIX_OIDC_ISSUER"),
        (GOOD | {"oidc_organisation": UUID(int=7)}, "PHOENIX_OIDC_ORGANISATION"),
        ({"oidc_client_id": "phoenix"}, "PHOENIX_OIDC_ISSUER"),
        ({"oidc_client_secret": SecretStr("s3cret")}, "PHOENIX_OIDC_ISSUER"),
        ({"oidc_domains": ["example.org"]}, "PHOENIX_OIDC_ISSUER"),
        ({"oidc_organisation": DEFAULT_ORGANISATION}, "PHOENIX_OIDC_ISSUER"),
        ({"rate_limit": "often"}, "PHOENIX_RATE_LIMIT"),
    ],
)
async def test_what_cannot_be_used_stops_the_start_by_its_name(
    system: System, settings: dict[str, Any], field: str
) -> None:
    """Rather than the first who signs in; no secret is in what is said."""
    with pytest.raises(SettingInvalid) as refused:
        await opened(system, **settings)
    assert refused.value.field == field
    assert "s3cret" not in f"{refused.value} {refused.value.hint}"


def test_a_wrong_value_of_the_environment_stops_the_start_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Roles and organisations are checked as they are read."""
    for name, value in (
        ("PHOENIX_OIDC_ROLE", "boss"),
        ("PHOENIX_OIDC_ORGANISATION", "ours"),
        ("PHOENIX_OIDC_DOMAINS", '{"a": 1}'),
        ("PHOENIX_OIDC_SECRET", "x"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(SettingInvalid) as refused:
                load_settings()
            assert refused.value.field == name


async def ready(app: Any) -> dict[str, Any]:
    """Return what the readiness probe answers."""
    async with AsyncClient(transport=ASGITransport(app), base_url="http://phoenix") as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


async def test_readiness_says_how_the_wall_stands(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    """The account of the embedded database may become the role, and nothing is warned of."""
    configure_logs("warning")
    async with open_door(system) as (app, _):
        assert (await ready(app))["wall"] == "role"
    assert WARNED not in capsys.readouterr().err


async def test_an_account_that_bypasses_the_wall_is_said_wherever_somebody_looks(
    migrated_database_url: str, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the schema is made, at each start of a service, by the probe, and by the doctor with a hint."""
    databases, account = Databases(postgres_url), f"plain_{uuid4().hex[:12]}"
    name, url = await owned(databases, account, "BYPASSRLS")
    configure_logs("warning")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(databases.drop_role, account)
        stack.push_async_callback(databases.drop, name)
        await upgrade(url)
        said = capsys.readouterr().err
        assert (said.count(WARNED), "GRANT phoenix_tenant" in said) == (1, True)
        settings = Settings(home=tmp_path / "home", DATABASE_URL=SecretStr(url))  # type: ignore[call-arg]
        async with open_system(settings, execution=False) as system:
            capsys.readouterr()
            async with open_door(system) as (app, _):
                assert (await ready(app))["wall"] == "none"
            assert capsys.readouterr().err.count(WARNED) == 1
            async with open_door(system, local=local_user("ann")):
                assert WARNED not in capsys.readouterr().err, "who runs the process is kept from nobody"
        found, apart, *_ = await check_database(settings)
        assert (found.ok, apart.ok, apart.needed) == (True, False, False)
        assert "queries alone" in apart.said
        assert "Grant the role phoenix_tenant" in apart.hint
        await databases.grant("phoenix_tenant", account)
        await upgrade(url)
        async with open_system(settings, execution=False) as system, open_door(system) as (app, _):
            assert (await ready(app))["wall"] == "role"
            async with transaction(system.rows) as connection:
                bypasses = "SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user"
                assert (await connection.execute(text(bypasses))).scalar_one() is True
