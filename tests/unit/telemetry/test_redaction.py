"""What is known, named or formed like a secret is masked, and everything else stays."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import orjson
import pytest
from pydantic import BaseModel, SecretStr

from phoenix.telemetry.redaction import (
    KNOWN,
    MASK,
    Known,
    know,
    mask,
    mask_json,
    mask_known,
    mask_known_json,
    mask_line,
    redact,
)
from phoenix.telemetry.shapes import is_secret_name

SECRET = 'p@ss/w+rd "quoted" ünd\\so'
PLAIN = "canary-7f3a9c1e"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing from elsewhere."""
    monkeypatch.setattr(KNOWN, "_forms", ())
    monkeypatch.setattr(KNOWN, "_values", set())


@pytest.mark.parametrize("secret", [SECRET, PLAIN])
@pytest.mark.parametrize(
    "write",
    [
        str,
        quote,
        quote_plus,
        lambda s: quote(s, safe=""),
        json.dumps,
        lambda s: json.dumps({"deep": json.dumps({"deeper": s})}),
        lambda s: orjson.dumps(s).decode(),
        lambda s: repr({"a": s}),
        lambda s: s.encode().hex(),
        lambda s: s.encode().hex().upper(),
        lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.urlsafe_b64encode(f"user:{s}".encode()).decode(),
        lambda s: base64.b64encode(f"a{s}b".encode()).decode(),
        lambda s: base64.b64encode(f"ab{s}c".encode()).decode(),
    ],
)
def test_a_known_value_is_masked_however_it_is_written(secret: str, write: object) -> None:
    """Raw, in an address, in JSON, in JSON within JSON, as hexadecimal, and anywhere within base64."""
    assert callable(write)
    written = write(secret)
    assert mask(f"before {written} after") == f"before {written} after"
    know(secret)
    masked = mask(f"before {written} after")
    assert MASK in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    for piece in (secret, written, secret.encode().hex()):
        assert piece not in masked


def test_of_an_address_its_password_is_secret() -> None:
    """The host stays readable; the password goes also where it stands alone or is quoted."""
    know("postgresql://phoenix:hunter%2F2again@db.internal:5432/phoenix")
    assert mask("db.internal as phoenix with hunter/2again or hunter%2F2again") == (
        f"db.internal as phoenix with {MASK} or {MASK}"
    )


def test_every_line_of_a_key_is_secret() -> None:
    """A private key that a tool shows a part of is masked by the lines that are shown."""
    know("-----BEGIN KEY-----\nMIIEowIBAAKCAQEA7bq\nZyXwVuTsRqPoNmLkJiHg\n-----END KEY-----")
    assert mask("line 2: ZyXwVuTsRqPoNmLkJiHg") == f"line 2: {MASK}"
    assert mask("-----END KEY-----") == "-----END KEY-----"


@pytest.mark.parametrize("value", ["", "short", "postgres", "PASSWORD", "--------", None])
def test_ordinary_words_are_not_taken_for_secrets(value: str | None) -> None:
    """A password that is a plain word would mask half of what people write."""
    know(value)
    text = "postgres PASSWORD short -------- and so on"
    assert mask(text) == text


def test_settings_and_environment_are_learnt() -> None:
    """Secret fields, variables with telling names, and passwords in addresses of any variable."""

    class Some(BaseModel):
        key: SecretStr | None = SecretStr("settings-secret-1")
        none: SecretStr | None = None
        plain: str = "settings-plain-1"

    KNOWN.add_settings(Some())
    environment = {
        "STRIPE_API_KEY": "env-secret-2",
        "SIGNING_KEY": "env-secret-3",
        "QUEUE": "amqp://u:env-secret-4@h/",
        "GITHUB_TOKEN_FILE": "/run/secrets/token",
        "HOME": "/home/someone",
        "PWD": "/home/someone/code",
        "OLDPWD": "/home/someone/before",
        "DB_PWD": "env-secret-5",
    }
    KNOWN.add_environment(environment)
    text = "settings-secret-1 settings-plain-1 env-secret-2 env-secret-3 env-secret-4 /run/secrets/token"
    assert mask(text) == f"{MASK} settings-plain-1 {MASK} {MASK} {MASK} /run/secrets/token"
    folders = "/home/someone/code/file.py /home/someone/before"
    assert mask(f"{folders} env-secret-5") == f"{folders} {MASK}"


def test_forms_that_nothing_else_has_are_masked_in_data() -> None:
    """Keys of providers go; names of code, digests and addresses for tests stay as they are."""
    given = "ghp_" + "A1b2C3d4E5f6A7b8C9d0" + " phx_key_" + "0a" * 16 + "_x" + " AKIA" + "A1B2C3D4E5F6G7H8"
    assert mask(given) == f"{MASK} {MASK} {MASK}"
    ordinary = (
        f"pk_users_organisation_id sk-button-primary-large {'0f' * 20} token = make_token(user) "
        "postgres://user:pass@localhost/test github_pattern hf_hub_download"
    )
    assert mask(ordinary) == ordinary


def test_lines_for_people_hide_more() -> None:
    """Passwords of addresses, bearer tokens, and values with a telling name."""
    shown = mask_line("GET https://bot:hunter2@h/x Authorization: Bearer abcdefghijklmnop password=hunter22")
    assert "hunter2" not in shown
    assert "abcdefghijklmnop" not in shown
    assert "https://" in shown


@pytest.mark.parametrize(
    "name",
    ["password", "api_key", "apiKey", "X-Auth-Token", "client_secret", "Cookie", "DSN", "refresh_token"],
)
def test_names_that_tell_a_secret(name: str) -> None:
    """As they are written in Python, JSON and headers."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["key", "input_token_details", "key_id", "secret_hash", "tokenizer", "token_file", "passed"]
)
def test_names_that_tell_none(name: str) -> None:
    """Keys of runs, hashes and ids."""
    assert not is_secret_name(name)


def test_values_are_masked_by_name_and_by_text() -> None:
    """At any depth; numbers are no secrets, and what is no JSON becomes text."""
    know(PLAIN)
    given = {
        "headers": [{"authorization": ["x"]}, {"accept": "*/*"}],
        "input_tokens": 5,
        "token": None,
        PLAIN: ("a", ValueError(PLAIN)),
    }
    assert redact(given) == {
        "headers": [{"authorization": MASK}, {"accept": "*/*"}],
        "input_tokens": 5,
        "token": None,
        MASK: ["a", MASK],
    }


def test_json_without_secrets_is_left_as_it_is() -> None:
    """Byte for byte; with one it stays JSON, private keys over several lines included."""
    know(PLAIN)
    plain = orjson.dumps({"step": "code", "input_tokens": 7, "text": 'say "hi"'})
    assert mask_json(plain) is plain
    assert mask_known_json(plain) is plain
    pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"
    given = {"a": f"x {PLAIN}", "pem": pem, "n": 1, "password": "abc", "after": "y"}
    assert orjson.loads(mask_json(orjson.dumps(given))) == {
        "a": f"x {MASK}",
        "pem": MASK,
        "n": 1,
        "password": MASK,
        "after": "y",
    }


def test_documents_lose_known_values_only() -> None:
    """Code that a model wrote about keys stays code."""
    know(PLAIN)
    code = 'assert find("ghp_' + "A1b2C3d4E5f6A7b8C9d0" + '")'
    assert mask_known({"code": code, "list": [PLAIN]}) == {"code": code, "list": [MASK]}


def test_longer_values_are_masked_before_their_parts() -> None:
    """What is left of a longer secret after a shorter one was masked would not be known any more."""
    some = Known()
    some.add("canary-one", "canary-one-and-two")
    assert some.mask("it is canary-one-and-two") == (f"it is {MASK}", 1)
