"""Secrets come from Vault, AWS Secrets Manager and files, through the real clients, and are renewed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from phoenix.configuration.renewing import renew, renewing
from phoenix.errors import SecretUnavailable, SettingInvalid
from phoenix.settings import Settings, live_secrets, load, load_settings, open_stores
from tests.secret_servers import AwsState, VaultState, secrets_manager, vault

CANARY = "sk-canary-7f3a"


@pytest.fixture
def store() -> Iterator[VaultState]:
    """A Vault with one secret."""
    with vault() as state:
        state.secrets["secret/phoenix/models"] = {"openai": CANARY, "anthropic": "sk-ant", "n": 3}
        yield state


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsState]:
    """A Secrets Manager with two secrets, and credentials for it."""
    for name, value in (("AWS_ACCESS_KEY_ID", "AK"), ("AWS_SECRET_ACCESS_KEY", "SK")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with secrets_manager() as state:
        state.secrets = {"plain": CANARY, "pair": '{"key": "sk-pair"}'}
        yield state


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work where there is no `.env`, with nothing set."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(store: VaultState, **more: str) -> Settings:
    """Return settings that refer to a Vault."""
    given = {
        "PHOENIX_VAULT_ADDRESS": store.url,
        "PHOENIX_VAULT_TOKEN": "s.root",
        "OPENAI_API_KEY": "vault:phoenix/models#openai",
    }
    return load({name: value for name, value in (given | more).items() if value}).settings


def key_of(settings: Settings) -> str:
    """Return the OpenAI key."""
    assert settings.openai_api_key is not None
    return settings.openai_api_key.get_secret_value()


def test_a_reference_to_vault_is_resolved(store: VaultState) -> None:
    """The value is what Vault's field holds; a secret that two settings name is read once."""
    settings = read(store, ANTHROPIC_API_KEY="vault:phoenix/models#anthropic")
    assert key_of(settings) == CANARY
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant"
    assert store.reads == ["secret/phoenix/models"]
    assert store.renewed == 1
    assert CANARY not in repr(settings)


@pytest.mark.parametrize("how", ["approle", "kubernetes"])
def test_other_logins(store: VaultState, how: str, empty_folder: Path) -> None:
    """AppRole and Kubernetes sign in at Vault; the secret id may come from a file."""
    store.tokens.clear()
    store.role_ids, store.jwts = {"role": "sid"}, {"role": "jwt"}
    (empty_folder / "given").write_text("sid\n" if how == "approle" else "jwt\n")
    more = {
        "PHOENIX_VAULT_TOKEN": "",
        "PHOENIX_VAULT_AUTH": how,
        "PHOENIX_VAULT_ROLE": "role",
        "PHOENIX_VAULT_SECRET_ID": f"file:{empty_folder / 'given'}" if how == "approle" else "",
        "PHOENIX_VAULT_JWT_PATH": str(empty_folder / "given"),
    }
    assert key_of(read(store, **more)) == CANARY
    with pytest.raises(SettingInvalid, match="refuses the login"):
        read(store, **more | {"PHOENIX_VAULT_ROLE": "other"})


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ({"OPENAI_API_KEY": "vault:phoenix/none#x"}, "OPENAI_API_KEY", "has no vault:phoenix/none"),
        ({"OPENAI_API_KEY": "vault:phoenix/models#x"}, "OPENAI_API_KEY", "no field 'x'"),
        ({"OPENAI_API_KEY": "vault:phoenix/models#n"}, "OPENAI_API_KEY", "holds no text"),
        ({"OPENAI_API_KEY": "vault:phoenix/models"}, "OPENAI_API_KEY", "vault:PATH#FIELD"),
        ({"PHOENIX_VAULT_TOKEN": "s.wrong"}, "PHOENIX_VAULT_ADDRESS", "refuses the login"),
        ({"PHOENIX_VAULT_TOKEN": ""}, "PHOENIX_VAULT_TOKEN", "needs it"),
        ({"PHOENIX_VAULT_TOKEN": "vault:a#b"}, "PHOENIX_VAULT_TOKEN", "cannot come from a store"),
        ({"PHOENIX_VAULT_ADDRESS": ""}, "OPENAI_API_KEY", "address is not set"),
    ],
)
def test_what_is_wrong_is_named(store: VaultState, more: dict[str, str], field: str, said: str) -> None:
    """The setting, the reference and what to do are told, and no value."""
    with pytest.raises(SettingInvalid, match=said) as caught:
        read(store, **more)
    assert caught.value.field in {field, "PHOENIX_VAULT_ADDRESS"}
    assert CANARY not in str(caught.value)


def test_a_vault_that_cannot_be_asked(store: VaultState) -> None:
    """A broken Vault and one that is not there stop the start, with its address."""
    store.broken = True
    with pytest.raises(SecretUnavailable, match="failed the login"):
        read(store)
    with pytest.raises(SecretUnavailable, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        read(store, PHOENIX_VAULT_ADDRESS="http://127.0.0.1:9")


def test_aws(aws: AwsState) -> None:
    """A secret's text, or a field of its JSON."""
    given = {"PHOENIX_AWS_REGION": "eu-central-1", "PHOENIX_AWS_ENDPOINT_URL": aws.url}
    loaded = load(given | {"OPENAI_API_KEY": "aws:plain", "ANTHROPIC_API_KEY": "aws:pair#key"}).settings
    assert key_of(loaded) == CANARY
    assert loaded.anthropic_api_key is not None
    assert loaded.anthropic_api_key.get_secret_value() == "sk-pair"
    wrong = {"aws:none": "ResourceNotFound", "aws:plain#key": "no JSON", "aws:pair#x": "no field"}
    for reference, said in wrong.items():
        with pytest.raises(SettingInvalid, match=said) as caught:
            load(given | {"OPENAI_API_KEY": reference})
        assert caught.value.field == "OPENAI_API_KEY"
    aws.broken = True
    with pytest.raises(SecretUnavailable, match="InternalServiceError"):
        load(given | {"OPENAI_API_KEY": "aws:plain"})
    with pytest.raises(SecretUnavailable, match="cannot be asked"):
        load(given | {"OPENAI_API_KEY": "aws:plain", "PHOENIX_AWS_ENDPOINT_URL": "http://127.0.0.1:9"})


@pytest.mark.parametrize(("package", "extra"), [("hvac", "vault"), ("boto3", "aws")])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
    """The message says what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    given = {"PHOENIX_VAULT_ADDRESS": "http://127.0.0.1:9", "PHOENIX_VAULT_TOKEN": "t"}
    with pytest.raises(SettingInvalid) as caught:
        load(given | {"OPENAI_API_KEY": f"{extra}:a#b"})
    assert f"phoenix-engine[{extra}]" in caught.value.hint


async def test_secrets_are_renewed_without_a_restart(store: VaultState) -> None:
    """The same settings give the new value; one whose store fails keeps the old one and is logged."""
    settings = read(store, ANTHROPIC_API_KEY="vault:phoenix/models#anthropic")
    store.secrets["secret/phoenix/models"] = {"openai": "sk-new"}
    with capture_logs() as logs:
        assert await renew(live_secrets(settings), open_stores(settings)) == {"openai_api_key"}
    assert key_of(settings) == "sk-new"
    assert settings.anthropic_api_key is not None
    assert settings.anthropic_api_key.get_secret_value() == "sk-ant"
    assert sorted((e["event"], e["setting"]) for e in logs) == [
        ("secret_not_renewed", "ANTHROPIC_API_KEY"),
        ("secret_renewed", "OPENAI_API_KEY"),
    ]
    assert not any(value in str(logs) for value in (CANARY, "sk-new", "sk-ant"))


async def test_renewing_goes_on_in_the_background(store: VaultState) -> None:
    """Who has to know is told the names; at the end it stops."""
    settings = read(store)
    told: asyncio.Queue[list[str]] = asyncio.Queue()
    secrets, stores = live_secrets(settings), open_stores(settings)
    async with renewing(secrets, stores, seconds=0.02, changed=lambda n: told.put_nowait(list(n))):
        store.secrets["secret/phoenix/models"] = {"openai": "sk-new"}
        async with asyncio.timeout(30):
            assert await told.get() == ["openai_api_key"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "renew secrets"]


def test_a_secret_too_old_is_no_longer_given(store: VaultState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its limit a value that nobody confirmed is refused, naming setting and reference."""
    settings = read(store, PHOENIX_SECRETS_MAX_AGE_SECONDS="60")
    now = time.monotonic()
    monkeypatch.setattr("phoenix.configuration.live.time.monotonic", lambda: now + 61)
    with pytest.raises(SecretUnavailable, match="vault:phoenix/models#openai") as caught:
        key_of(settings)
    assert caught.value.field == "OPENAI_API_KEY"
    secret = live_secrets(settings)["openai_api_key"]
    secret.renew("sk-again")
    assert key_of(settings) == "sk-again"


def test_only_secrets_may_be_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other settings that look like references are themselves."""
    monkeypatch.setenv("PHOENIX_MODEL", "vault:x#y")
    assert load_settings().model == "vault:x#y"
