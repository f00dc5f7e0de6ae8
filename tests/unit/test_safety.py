"""In production an unsafe combination stops the start, with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from phoenix.errors import SettingInvalid
from phoenix.safety import check_safe
from phoenix.settings import Settings

SAFE: dict[str, Any] = {
    "environment": "production",
    "host": "0.0.0.0",
    "tls": True,
    "public_url": "https://phoenix.example.org",
    "database_url": "postgresql://phoenix:Zk3-9vQ_long-enough@db/phoenix",
    "redis_url": "redis://:Zk3-9vQ_long-enough@redis:6379/0",
    "openai_api_key": "sk-proj-8dK2",
    "cors_origins": ["https://app.example.org"],
    "webhook_allow": ["10.0.0.0/8"],
}
UNSAFE: list[tuple[str, dict[str, Any]]] = [
    ("PHOENIX_SANDBOX", {"sandbox": "host"}),
    ("PHOENIX_TLS", {"tls": False}),
    ("PHOENIX_PUBLIC_URL", {"public_url": "http://phoenix.example.org"}),
    ("PHOENIX_LOCAL_SOURCES", {"local_sources": True}),
    ("PHOENIX_CORS_ORIGINS", {"cors_origins": ["*"]}),
    ("PHOENIX_WEBHOOK_ALLOW", {"webhook_allow": ["0.0.0.0/0"]}),
    ("DATABASE_URL", {"database_url": "postgresql://phoenix:phoenix@db/phoenix"}),
    ("DATABASE_URL", {"database_url": "postgresql://phoenix:short7@db/phoenix"}),
    ("DATABASE_URL", {"database_url": "postgresql://phoenix@db/phoenix"}),
    ("DATABASE_URL", {"database_url": "postgresql:///phoenix?host=db&user=phoenix"}),
    ("REDIS_URL", {"redis_url": "redis://redis:6379/0"}),
    ("PHOENIX_OIDC_CLIENT_SECRET", {"oidc_client_secret": "changeme"}),
    ("OPENAI_API_KEY", {"openai_api_key": "sk-xxx"}),
]


def settings(tmp_path: Path, **changes: Any) -> Settings:
    """Return settings of production."""
    return Settings(home=tmp_path, **SAFE | changes)


def test_what_is_safe_starts(tmp_path: Path) -> None:
    """Nothing is refused where nothing is unsafe, and servers on this machine may ask for no password."""
    check_safe(settings(tmp_path), serves=True, works=True)
    local = {"database_url": "postgresql://u@127.0.0.1/d", "redis_url": "redis://localhost"}
    check_safe(settings(tmp_path, **local), serves=True, works=True)
    check_safe(settings(tmp_path, tls=False, host="127.0.0.1"), serves=True, works=True)
    check_safe(settings(tmp_path, database_url="postgresql:///d?host=/run/pg"), serves=True, works=True)


@pytest.mark.parametrize(("name", "change"), UNSAFE)
def test_what_is_unsafe_is_refused(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    """The setting is named, its secret is not; development takes the same."""
    with pytest.raises(SettingInvalid, match="unsafe in production") as caught:
        check_safe(settings(tmp_path, **change), serves=True, works=True)
    assert caught.value.field == name
    assert "short7" not in str(caught.value)
    check_safe(settings(tmp_path, **change | {"environment": "development"}), serves=True, works=True)


def test_only_what_a_process_does_is_looked_at(tmp_path: Path) -> None:
    """A worker has no door, and a service that does not work no sandbox."""
    check_safe(settings(tmp_path, tls=False), serves=False, works=True)
    check_safe(settings(tmp_path, sandbox="host"), serves=True, works=False)


def test_all_that_is_unsafe_is_counted(tmp_path: Path) -> None:
    """The first is explained, the others are named."""
    with pytest.raises(SettingInvalid, match=r"There is more: PHOENIX_CORS_ORIGINS\."):
        check_safe(settings(tmp_path, tls=False, cors_origins=["*"]), serves=True, works=True)
