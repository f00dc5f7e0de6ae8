"""Everything that can be set, and reading it. docs/settings.md is made of this.

The docstring of a field is its row in docs/settings.md: see `manual.settings_page`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from phoenix.configuration.composing import overrides_of
from phoenix.configuration.fields import is_secret, outside_name, outside_names
from phoenix.configuration.live import LiveSecret, Reference, parse_reference
from phoenix.configuration.sources import Found, Given, find_settings
from phoenix.configuration.stores import Aws, AwsOptions, Stores, Vault, VaultOptions
from phoenix.errors import SettingInvalid

ROUTE_LIMITS = {"code": "300/minute", "fork": "20/minute", "key": "60/minute", "verify": "10/minute"}
"""Limits of single routes: reading code, forking, making API keys, checking the audit log."""
LIMITED = frozenset({*ROUTE_LIMITS, "delete", "launch", "member", "prune"})
"""Routes that may have a limit of their own."""
DOCUMENTS = ("models", "workflows")
"""What overrides change, as the first name of their paths."""
FOREIGN = ("PHOENIX_TEST_DATABASE_URL", "PHOENIX_LOG_CONTEXT")
"""The tests' own, and what a process of Phoenix tells those that it starts."""
ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")
STORES_OWN = frozenset({"vault_token", "vault_secret_id"})
"""Secrets that stores are opened with: these may refer to files alone."""


def default_home() -> Path:
    """Return the data folder: as root /var/lib/phoenix, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/phoenix")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "phoenix"


class Settings(BaseModel):
    """Everything that can be set. Names in the environment are upper case with `PHOENIX_` before."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    environment: Literal["development", "production"] = "development"
    """`production` refuses to start with what is [unsafe there](#production)."""
    home: Path = Field(default_factory=default_home)
    """Where everything is kept."""
    worktrees: Path | None = None
    """Folder on this machine for the files that agents work on; without it they lie in `PHOENIX_HOME`, which
    may be shared with other machines."""
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """A PostgreSQL server (15 or newer); without it the embedded one in `PHOENIX_HOME` runs."""
    database_reader: str = ""
    """The database's role that [Grafana](monitoring.md#a-project-in-grafana) reads with: a migration lets it
    read what dashboards show, and nothing else. The role must exist."""
    sandbox: Literal["auto", "bubblewrap", "sandlock", "docker", "kubernetes", "host"] = "auto"
    """What projects' code is executed in. `host` isolates nothing and is only for machines that are
    themselves throwaway."""
    kubernetes_namespace: str = "phoenix-sandboxes"
    """Where the pods of the sandbox [`kubernetes`](kubernetes.md#sandboxes) are made; nothing else should be
    in it."""
    kubernetes_image: str = ""
    """Image of these pods: Phoenix's own, so that installed environments find their Python."""
    kubernetes_runtime_class: str = ""
    """Their RuntimeClass, such as `gvisor` or `kata`; without it the cluster's default."""
    kubernetes_warm: int = Field(default=0, ge=0, le=100)
    """Pods that each worker keeps started for the next task."""
    model: str = ""
    """`provider:model`, `recorded:FILE`, or an alias or `auto` of the [catalogue](models.md); with
    `chaos:RATE:` before a model to [rehearse faults](model-faults.md#rehearse-it); empty takes the
    catalogue, else what is found by base URL, key, then Ollama."""
    models: Path | None = None
    """YAML file of the [model catalogue](models.md), or folder of files it is [composed](composition.md)
    from: aliases, tiers and which agent takes which; without it one model does everything."""
    workflows: Path | None = None
    """YAML file of the [options of workflows](composition.md#workflows), or folder of files they are
    composed from."""
    overrides: list[str] = []
    """What changes these files, such as `["models.tiers=[fast,strong]"]`, as a JSON list; `--set` adds to
    it."""
    config_environment: list[str] = []
    """Variables that these files may read with `${oc.env:NAME}`, as a JSON list; never a secret."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    """Key for OpenAI, or for the server at `OPENAI_BASE_URL`."""
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    """Any OpenAI-compatible server."""
    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    """Key for Anthropic."""
    google_api_key: SecretStr | None = Field(default=None, validation_alias="GOOGLE_API_KEY")
    """Key for Google."""
    model_deadline_seconds: float = Field(default=1200.0, gt=0, le=86_400)
    """How long one call of a model may take, all its attempts and the waits between them; see [When a model
    fails](model-faults.md)."""
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
    """[Prices of one's own](costs.md#prices) by `provider:model`, in USD per million tokens, as a JSON
    object; they go before the table's."""
    concurrency: int = Field(default=8, ge=1, le=1000)
    """Runs that this process works on at once."""
    drain_seconds: float = Field(default=20.0, ge=0, le=3600)
    """How long steps that run may take when a worker is told to stop; then they are handed back."""
    host: str = "127.0.0.1"
    """Where the HTTP service listens."""
    port: int = Field(default=8400, ge=0, le=65535)
    """On which port; 0 takes any."""
    work: bool = True
    """Whether the process of the HTTP service works on runs too; else only `phoenix worker` does."""
    redis_url: SecretStr | None = Field(default=None, validation_alias="REDIS_URL")
    """Redis, where replicas share rate limits, caps of models, circuit breakers and the [response
    cache](models.md#the-response-cache); without it each process counts for itself, and breakers are shared
    through PostgreSQL."""
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
    """Where browsers reach the HTTP service, such as `https://phoenix.example.org`."""
    oidc_issuer: str | None = None
    """The identity provider to sign in with; it also needs `PHOENIX_OIDC_CLIENT_ID` and
    `PHOENIX_PUBLIC_URL`."""
    oidc_client_id: str = ""
    """As whom the service speaks to it."""
    oidc_client_secret: SecretStr | None = None
    """The secret of that client; left out for a public one."""
    oidc_domains: list[str] = []
    """Domains of verified e-mail addresses whose owners become members by signing in, as a JSON list;
    without any, only who has an account comes in."""
    oidc_role: Literal["viewer", "developer", "approver", "admin"] = "viewer"
    """The role of who becomes a member so."""
    oidc_organisation: UUID | None = None
    """The organisation of which they become members; left out, the first."""
    tls: bool = False
    """Clients reach the HTTP service over TLS only, ended in front of it: browsers are told so."""
    webhook_allow: list[str] = []
    """Networks, addresses and hosts that [webhooks](webhooks.md) may be sent to although they are not
    public, as a JSON list; hosts in it may be spoken to without TLS."""
    local_sources: bool = False
    """Clients of the HTTP service may name folders and recordings of its machine."""
    server: str = ""
    """URL of the HTTP service that commands speak to; empty: one of the command's own process."""
    api_key: SecretStr | None = None
    """Key for that service; without it the one that `phoenix login` has kept."""
    auto_migrate: bool = True
    """Bring the database's schema up to date at start; `0` refuses an older schema."""
    retention_days: int = Field(default=7, ge=0, le=36500)
    """After so long the checkpoints and worktrees of a finished project go, and it cannot be resumed; `0`
    keeps them."""
    environment_days: int = Field(default=30, ge=0, le=36500)
    """An installed environment that was not used for so long goes; 0 keeps it."""
    min_free_mb: int = Field(default=64, ge=1, le=1_000_000)
    """With less space in the data folder work pauses; it goes on at twice as much."""
    rules: Path | None = None
    """YAML file of [permission rules](permissions.md) for agents' tools; without it those that come with
    Phoenix."""
    memory: bool = True
    """Whether agents are reminded of what earlier projects taught, and whether that is [kept](memory.md)."""
    memory_holdout: float = Field(default=0.1, ge=0, le=1)
    """Share of projects that run without being reminded, to measure what it is worth."""
    memory_max_items: int = Field(default=20_000, ge=0, le=1_000_000)
    """How many memories one organisation may keep."""
    memory_max_mb: int = Field(default=64, ge=0, le=100_000)
    """How much text they may be, for one organisation."""
    embedder: Literal["auto", "openai", "minilm", "wordllama", "hashed"] = "auto"
    """What computes vectors of what is remembered. `auto`: OpenAI's where only its key is set, MiniLM or
    WordLlama where they are, else hashed words."""
    chroma_url: str = Field(default="", pattern=r"^(https?://[^\s/@]+/?)?$")
    """A Chroma server, such as `http://chroma:8000`; without it the embedded one in `PHOENIX_HOME` is
    used."""
    vault_address: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$")
    """HashiCorp Vault, for [references](#secrets) such as `vault:PATH#FIELD`; needs the extra `vault`."""
    vault_namespace: str = ""
    """Vault's namespace (Enterprise)."""
    vault_mount: str = "secret"
    """Where Vault's KV engine, version 2, is mounted."""
    vault_auth: Literal["token", "approle", "kubernetes"] = "token"
    """How Phoenix signs in at Vault."""
    vault_auth_mount: str = ""
    """Where that login is mounted; empty for its usual place."""
    vault_token: SecretStr | None = None
    """The token of the login `token`. It is renewed at each refresh where Vault allows that."""
    vault_role: str = ""
    """The role of the login `kubernetes`, or the role id of `approle`."""
    vault_secret_id: SecretStr | None = None
    """The secret id of the login `approle`."""
    vault_jwt_path: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    """File with the service account's token, for the login `kubernetes`."""
    vault_ca: Path | None = None
    """File with the certificates that Vault's is signed by; without it the machine's."""
    aws_region: str = ""
    """Region of AWS Secrets Manager, for references such as `aws:NAME`; needs the extra `aws`. Credentials
    are found as AWS's own tools find them."""
    aws_endpoint_url: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$")
    """Another address of Secrets Manager, such as a VPC endpoint."""
    secrets_refresh_seconds: float = Field(default=300.0, ge=0, le=86_400)
    """How often secrets that are references are read anew; `0` never does."""
    secrets_max_age_seconds: float = Field(default=86_400.0, ge=0, le=31_536_000)
    """For how long such a secret counts that its store no longer confirms; `0` for ever."""
    sentry_dsn: SecretStr | None = None
    """Where errors that nobody foresaw are sent; it needs the extra `sentry`."""
    traces: Literal["auto", "off", "database", "otlp", "both"] = "auto"
    """Where spans go; `auto`: into the database, and to a collector where one is named. With `otlp` the
    database has only those that may be parents of others."""
    otlp_endpoint: str = Field(default="", pattern=r"^(https?://[^\s@]+)?$")
    """Base URL of an OpenTelemetry collector, such as `http://collector:4318`; empty takes
    `OTEL_EXPORTER_OTLP_ENDPOINT`."""
    trace_share: float = Field(default=1.0, ge=0, le=1)
    """Share of the traces that begin here which are recorded; one that comes with a request says itself."""
    trace_max_spans: int = Field(default=20_000, ge=1, le=10_000_000)
    """Spans of one project that the database keeps, about."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    """The least level of what is logged."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """How a log record is written; `auto`: text at a terminal, else JSON."""

    @field_validator("route_limits")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(value) - LIMITED)
        if unknown:
            raise ValueError(
                f"{unknown[0]!r} is no route with a limit; known are {', '.join(sorted(LIMITED))}"
            )
        return value

    @field_validator("database_reader")
    @classmethod
    def _role(cls, value: str) -> str:
        if value and not ROLE.fullmatch(value):
            raise ValueError(
                "it is no name of a role: give small letters, digits and underscores, 63 at most, such as"
                " phoenix_reader"
            )
        if value.startswith(("pg_", "phoenix_tenant")):
            raise ValueError(
                "this role belongs to the database or to Phoenix: give one such as phoenix_reader"
            )
        return value

    @field_validator("overrides")
    @classmethod
    def _of_a_document(cls, value: list[str]) -> list[str]:
        for one in value:
            if not any(overrides_of(document, [one]) for document in DOCUMENTS):
                raise ValueError(f"{one.split('=')[0]!r} begins with none of {', '.join(DOCUMENTS)}")
        return value

    @field_validator("config_environment")
    @classmethod
    def _no_secret(cls, value: list[str]) -> list[str]:
        secrets = {outside_name(n, i) for n, i in cls.model_fields.items() if is_secret(i)}
        for one in value:
            if one in secrets:
                raise ValueError(f"{one} is a secret")
        return value

    @field_validator("home", "worktrees", "rules", "models", "workflows", "vault_ca")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    def overridden(self, overrides: Sequence[str]) -> Settings:
        """Return these settings with more overrides, after those that are set.

        Raises:
            SettingInvalid: one names nothing that can be overridden.
        """
        try:
            self._of_a_document(list(overrides))
        except ValueError as error:
            raise SettingInvalid(f"{error}.", field="--set") from error
        return self.model_copy(update={"overrides": [*self.overrides, *overrides]}) if overrides else self


@dataclass(frozen=True)
class Loaded:
    """Settings, and where each value that was given came from."""

    settings: Settings
    given: Mapping[str, Given]
    """By field. What is not in it has its default."""


def load_settings() -> Settings:
    """Read the settings, and the secrets that they refer to. Blocks while stores are asked.

    Raises:
        SettingInvalid: a value is wrong, a name is unknown, or a reference leads nowhere; names it.
        SecretUnavailable: a store cannot be reached.
    """
    return load().settings


def load(environ: Mapping[str, str] | None = None, *, resolve: bool = True) -> Loaded:
    """Read the settings with where they come from.

    Args:
        environ: The environment; the process's own when left out.
        resolve: Read the secrets that are referred to; else the references stay as they are.

    Raises:
        SettingInvalid, SecretUnavailable: as `load_settings`.
    """
    found = find_settings(
        Settings, os.environ if environ is None else environ, dotenv=Path(".env"), foreign=FOREIGN
    )
    try:
        settings = Settings.model_validate(found.values)
    except ValidationError as error:
        raise _wrong(error, found) from error
    return Loaded(_resolved(settings) if resolve else settings, found.given)


def _wrong(error: ValidationError, found: Found) -> SettingInvalid:
    """Return the first thing that is wrong, with its name and where it was given; no value is repeated."""
    first = error.errors(include_input=False)[0]
    location = str(first["loc"][0]) if first["loc"] else ""
    name = outside_names(Settings).get(location, location)
    given = found.given.get(name)
    message = str(first["msg"]).removeprefix("Value error, ")
    if given is not None and given.origin != "environment":
        message = f"{message} ({given.origin})"
    info = Settings.model_fields.get(name)
    return SettingInvalid(message, field=outside_name(name, info) if info else location)


def open_stores(settings: Settings) -> Stores:
    """Return the stores that the settings name; nothing is opened before it is read."""
    vault = VaultOptions(
        address=settings.vault_address,
        namespace=settings.vault_namespace,
        mount=settings.vault_mount,
        auth=settings.vault_auth,
        auth_mount=settings.vault_auth_mount,
        token=settings.vault_token,
        role=settings.vault_role,
        secret_id=settings.vault_secret_id,
        jwt_path=settings.vault_jwt_path,
        ca=settings.vault_ca,
    )
    return Stores(Vault(vault), Aws(AwsOptions(settings.aws_region, settings.aws_endpoint_url)))


def live_secrets(settings: Settings) -> dict[str, LiveSecret]:
    """Return the secrets that came from stores, by field."""
    values = ((name, getattr(settings, name)) for name in Settings.model_fields)
    return {name: value for name, value in values if isinstance(value, LiveSecret)}


def _resolved(settings: Settings) -> Settings:
    """Return settings with the secrets that were references, the stores' own before all others."""
    for names in (STORES_OWN, {n for n, i in Settings.model_fields.items() if is_secret(i)} - STORES_OWN):
        references = dict(_references(settings, names))
        if not references:
            continue
        said = {outside_name(n, Settings.model_fields[n]): reference for n, reference in references.items()}
        values = open_stores(settings).read_all(said)
        update = {}
        for name, reference in references.items():
            outside = outside_name(name, Settings.model_fields[name])
            update[name] = LiveSecret(
                values[outside],
                reference=reference,
                said=outside,
                max_age_seconds=settings.secrets_max_age_seconds,
            )
        settings = settings.model_copy(update=update)
    return settings


def _references(settings: Settings, names: Collection[str]) -> Iterator[tuple[str, Reference]]:
    for name in sorted(names):
        value = getattr(settings, name)
        if value is None:
            continue
        said = outside_name(name, Settings.model_fields[name])
        reference = parse_reference(value.get_secret_value(), said=said)
        if reference is None:
            continue
        if name in STORES_OWN and reference.store != "file":
            raise SettingInvalid("what a store is opened with cannot come from a store.", field=said)
        yield name, reference
