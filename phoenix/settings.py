"""Settings from the environment (`PHOENIX_*`) and `.env`; a typo or a wrong value fails at start."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from phoenix.errors import SettingInvalid

ROUTE_LIMITS = {"code": "300/minute", "fork": "20/minute", "key": "60/minute", "verify": "10/minute"}
"""Limits of single routes: reading code, forking, making API keys, checking the audit log."""
LIMITED = frozenset({*ROUTE_LIMITS, "delete", "launch", "member", "prune"})
"""Routes that may have a limit of their own."""


def default_home() -> Path:
    """Return the data folder: as root /var/lib/phoenix, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/phoenix")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "phoenix"


class Settings(BaseSettings):
    """Everything that can be set. Names in the environment are upper case with `PHOENIX_` before."""

    model_config = SettingsConfigDict(
        env_prefix="PHOENIX_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Field(default_factory=default_home)
    worktrees: Path | None = None
    """Folder on this machine for the files that agents work on; without it they lie in `home`, which may be
    shared with other machines."""
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """A PostgreSQL server; without it the embedded one in `home` runs."""
    sandbox: Literal["auto", "bubblewrap", "sandlock", "docker", "kubernetes", "host"] = "auto"
    """`host` isolates nothing: only for machines that are themselves throwaway."""
    kubernetes_namespace: str = "phoenix-sandboxes"
    """Where the pods of the sandbox `kubernetes` are made; nothing else should be in it."""
    kubernetes_image: str = ""
    """Image of these pods: Phoenix's own, so that installed environments find their Python."""
    kubernetes_runtime_class: str = ""
    """Their RuntimeClass, such as gvisor or kata; without it the cluster's default."""
    kubernetes_warm: int = Field(default=0, ge=0, le=100)
    """Pods that each worker keeps started for the next task."""
    model: str = ""
    """`provider:model`, `recorded:FILE`, or what the catalogue knows: an alias, or `auto`; empty takes the
    catalogue, else looks for a key, a base URL, then Ollama."""
    models: Path | None = None
    """YAML file of the model catalogue: aliases, tiers and which agent takes which."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    model_deadline_seconds: float = Field(default=1200.0, gt=0, le=86_400)
    """How long one call of a model may take, all its attempts and the waits between them."""
    model_answer_seconds: float = Field(default=600.0, gt=0, le=86_400)
    """How long one answer may take, from the request to its last byte."""
    model_idle_seconds: float = Field(default=120.0, gt=0, le=86_400)
    """How long nothing of an answer may come, from the request on."""
    model_retry_seconds: float = Field(default=1.0, gt=0, le=60)
    """How long the second attempt of a call waits; each further one twice as long, a minute at most."""
    prices: Literal["strict", "known"] = "known"
    """What becomes of a call of unknown price: `strict` refuses it before it is made; `known` makes it, and
    budgets in USD cannot count it."""
    price_overrides: dict[str, dict[str, Decimal]] = {}
    """Prices by `provider:model`, in USD per million tokens, as a JSON object; they go before the table's."""
    concurrency: int = Field(default=8, ge=1, le=1000)
    """Runs that this process works on at once."""
    drain_seconds: float = Field(default=20.0, ge=0, le=3600)
    """How long steps that run may take when a worker is told to stop; then they are handed back."""
    host: str = "127.0.0.1"
    """Where the HTTP service listens."""
    port: int = Field(default=8400, ge=0, le=65535)
    work: bool = True
    """Whether the process of the HTTP service works on runs too; else only `phoenix worker` does."""
    redis_url: SecretStr | None = Field(default=None, validation_alias="REDIS_URL")
    """Redis, where replicas share rate limits, caps of models, and circuit breakers; without it each process
    counts for itself, and breakers are shared through PostgreSQL."""
    cors_origins: list[str] = []
    """Origins of browser pages that may call the HTTP service, as a JSON list."""
    rate_limit: str = "1200/minute"
    """Requests of one user or key."""
    sign_in_limit: str = "20/minute"
    """Tries to sign in or refresh, from one address on the network."""
    route_limits: dict[str, str] = ROUTE_LIMITS
    """Requests of one user or key to single routes, as a JSON object; what it leaves out has no such limit.
    Known are `code`, `delete`, `fork`, `key`, `launch`, `member`, `prune` and `verify`."""
    public_url: str | None = None
    """Where browsers reach the HTTP service, such as https://phoenix.example.org."""
    oidc_issuer: str | None = None
    """The identity provider to sign in with; it also needs `oidc_client_id` and `public_url`."""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr | None = None
    """Left out for a public client."""
    oidc_domains: list[str] = []
    """Of verified e-mail addresses whose owners become members by signing in, as a JSON list; without any,
    only who has an account comes in."""
    oidc_role: Literal["viewer", "developer", "approver", "admin"] = "viewer"
    """Of who becomes a member so."""
    oidc_organisation: UUID | None = None
    """Of which they become members; left out, of the first."""
    tls: bool = False
    """Clients reach the HTTP service over TLS only, ended in front of it: browsers are told so."""
    webhook_allow: list[str] = []
    """Networks, addresses and hosts that webhooks may be sent to although they are not public, as a JSON
    list; hosts in it may be spoken to without TLS."""
    local_sources: bool = False
    """Clients of the HTTP service may name folders and recordings of its machine."""
    server: str = ""
    """URL of the HTTP service that commands speak to; empty: one of the command's own process."""
    api_key: SecretStr | None = None
    """Key for that service; without it the one that `phoenix login` has kept."""
    auto_migrate: bool = True
    """Bring the database's schema up to date at start; without it an older schema is refused."""
    retention_days: int = Field(default=7, ge=0, le=36500)
    """After so long the inner state of a finished project goes, and it cannot be resumed; 0 keeps it."""
    environment_days: int = Field(default=30, ge=0, le=36500)
    """An installed environment that was not used for so long goes; 0 keeps it."""
    min_free_mb: int = Field(default=64, ge=1, le=1_000_000)
    """With less space in the data folder work pauses; it goes on at twice as much."""
    rules: Path | None = None
    """YAML file of permission rules for agents' tools; without it those that come with Phoenix."""
    memory: bool = True
    """Whether agents are reminded of what earlier projects taught, and whether that is kept."""
    memory_holdout: float = Field(default=0.1, ge=0, le=1)
    """Share of projects that run without being reminded, to measure what it is worth."""
    memory_max_items: int = Field(default=20_000, ge=0, le=1_000_000)
    """What one organisation may keep."""
    memory_max_mb: int = Field(default=64, ge=0, le=100_000)
    """Of text, for one organisation."""
    embedder: Literal["auto", "openai", "minilm", "wordllama", "hashed"] = "auto"
    """`auto`: OpenAI's where only its key is set, MiniLM or WordLlama where they are, else hashed words."""
    chroma_url: str = Field(default="", pattern=r"^(https?://[^\s/@]+/?)?$")
    """A Chroma server, such as http://chroma:8000; without it the embedded one in `home` is used."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"

    @field_validator("route_limits")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - LIMITED)
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no route with a limit; known are {', '.join(sorted(LIMITED))}"
            )
        return value

    @field_validator("home", "worktrees", "rules", "models")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SettingInvalid: a value is wrong or a `PHOENIX_` name is unknown; names it.
    """
    known = {
        f"PHOENIX_{name.upper()}" for name, info in Settings.model_fields.items() if not info.validation_alias
    }
    foreign = ("PHOENIX_TEST_DATABASE_URL",)  # the tests' own
    unknown = sorted(n for n in os.environ if n.startswith("PHOENIX_") and n not in {*known, *foreign})
    if unknown:
        raise SettingInvalid(
            f"unknown setting {unknown[0]}.",
            field=unknown[0],
            hint=f"Known are {', '.join(sorted(known))}.",
        )
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        shown = name if name.isupper() else f"PHOENIX_{name.upper()}"
        raise SettingInvalid(str(first["msg"]), field=shown) from error
