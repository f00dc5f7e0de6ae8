"""Which service a command speaks to, with which key, and what it says when that does not work."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app
from phoenix.cli.connection import is_loopback, service_url
from phoenix.cli.credentials import KEYS_FILE, keep_key, kept_keys
from phoenix.errors import SettingInvalid

KEY = "phx_key_" + "0" * 32 + "_secret"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def phoenix(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=typed)


@pytest.fixture
def other() -> Iterator[tuple[str, list[str]]]:
    """Return the address of a program that is no Phoenix, and the keys that it was sent."""
    keys: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys.append(self.headers.get("X-API-Key", ""))
            elsewhere = self.path.startswith("/moved")
            self.send_response(302 if elsewhere else 200)
            self.send_header("Location", "/")
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>Welcome</h1>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", keys
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:8400", "http://127.0.0.1:8400"),
        (" https://Phoenix.example.org/ ", "https://phoenix.example.org"),
        ("https://example.org/phoenix/api/v1/", "https://example.org/phoenix"),
        ("http://[::1]:8400", "http://[::1]:8400"),
    ],
)
def test_an_address_has_one_form(given: str, url: str) -> None:
    """Under which its key is kept."""
    assert service_url(given) == url


@pytest.mark.parametrize(
    "given",
    [
        "localhost:8400",
        "phoenix",
        "ftp://example.org",
        "http://",
        "http://host:port",
        "http://host:0",
        "http://[::1",
        "https://example.org/?a=1",
        "https://example.org/#a",
        "https://user:secret@example.org",
    ],
)
def test_what_is_no_address_is_bad_usage(home: Path, given: str) -> None:
    """Nothing is started in its place, and a password in it is not repeated."""
    result = phoenix("list", "--server", given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--server: " in result.stderr
    assert "secret" not in result.stderr
    assert not home.exists()


def test_this_machine_is_told_from_others() -> None:
    """There the key needs no encryption, and no proxy is asked."""
    assert all(is_loopback(f"http://{host}:1") for host in ("127.0.0.1", "localhost", "[::1]", "127.9.9.9"))
    assert not any(is_loopback(f"http://{host}") for host in ("10.0.0.1", "localhost.example.org"))


def test_a_service_without_a_key_is_not_asked(home: Path, other: tuple[str, list[str]]) -> None:
    """The message says the two ways to give one."""
    url, keys = other
    result = phoenix("list", "--server", url)
    assert (result.exit_code, keys) == (1, [])
    assert f"phoenix login --server {url}" in result.stderr
    assert "PHOENIX_API_KEY" in result.stderr


def test_a_wrong_address_is_said(
    home: Path, other: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program listens there, or points elsewhere, which is not followed with the key."""
    url, keys = other
    monkeypatch.setenv("PHOENIX_API_KEY", KEY)
    result = phoenix("list", "--server", url, "--json")
    assert (result.exit_code, json.loads(result.stdout)["error"]["code"]) == (1, "service_failed")
    assert "is no Phoenix service (text/html)" in result.stderr
    moved = phoenix("list", "--server", f"{url}/moved")
    assert (moved.exit_code, "is no Phoenix service (HTTP 302)" in moved.stderr) == (1, True)
    assert keys == [KEY, KEY]
    assert not home.exists()


def test_a_service_that_cannot_be_reached_is_said_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is named by the environment; nothing is started in its place."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PHOENIX_SERVER", f"http://127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setenv("PHOENIX_API_KEY", KEY)
        for command in (["list"], ["watch", "3f2a"], ["new", "Build it."], ["audit", "verify"]):
            result = phoenix(*command)
            assert (result.exit_code, "cannot be reached" in result.stderr) == (1, True), result.output
            assert "Does `phoenix up` run there?" in result.stderr
    assert not home.exists()


@pytest.mark.parametrize(
    "command",
    [
        ["run", "/no/such/flows.py:x", "1"],
        ["fork", "3f2a", "--record", "out.jsonl"],
        ["new", "Build it.", "--record", "out.jsonl"],
        ["resume", "3f2a", "--record", "out.jsonl"],
    ],
)
def test_what_a_service_cannot_do_is_refused(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Rather than done to another database than the one that is meant."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PHOENIX_SERVER", "http://127.0.0.1:1")
    monkeypatch.setenv("PHOENIX_API_KEY", KEY)
    result = phoenix(*command)
    assert result.exit_code == 2, result.output
    assert "Leave" in result.stderr
    assert not home.exists()


def test_a_key_that_is_none_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not even fit into a request."""
    for wrong in ("a b", "schlüssel", "x" * 1000, "a\x00"):
        if "\x00" not in wrong:
            monkeypatch.setenv("PHOENIX_API_KEY", wrong)
            result = phoenix("list", "--server", "http://127.0.0.1:1")
            assert (result.exit_code, "This is no API key." in result.stderr) == (2, True)
        typed = phoenix("login", "--server", "http://127.0.0.1:1", typed=f"{wrong}\n")
        assert typed.exit_code == 2
        assert wrong not in typed.stderr


def test_a_key_is_kept_for_its_service_alone(home: Path) -> None:
    """Only its owner can read it; another service's stays."""
    keep_key(home, "https://a.example.org", "one")
    keep_key(home, "https://b.example.org", "two")
    keep_key(home, "https://a.example.org", "three")
    assert kept_keys(home) == {"https://a.example.org": "three", "https://b.example.org": "two"}
    assert (home / KEYS_FILE).stat().st_mode & 0o777 == 0o600
    assert [p.name for p in home.iterdir()] == [KEYS_FILE]


def test_keys_that_others_can_read_are_not_used(home: Path, tmp_path: Path) -> None:
    """Whoever reads them may have changed them; nor is a link followed to where somebody points."""
    keep_key(home, "http://127.0.0.1:1", KEY)
    (home / KEYS_FILE).chmod(0o640)
    result = phoenix("list", "--server", "http://127.0.0.1:1")
    assert (result.exit_code, "chmod 600" in result.stderr) == (2, True)
    (home / KEYS_FILE).rename(tmp_path / "elsewhere")
    (home / KEYS_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingInvalid, match="cannot be read"):
        kept_keys(home)
    (home / KEYS_FILE).unlink()
    (home / KEYS_FILE).write_text("{")
    (home / KEYS_FILE).chmod(0o600)
    with pytest.raises(SettingInvalid, match="holds no keys"):
        kept_keys(home)


def test_a_login_needs_a_service(home: Path) -> None:
    """A key is never kept for whichever comes."""
    result = phoenix("login", typed=f"{KEY}\n")
    assert (result.exit_code, "At which service?" in result.stderr) == (2, True)


def test_an_unencrypted_way_is_warned_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond this machine, before anything is sent."""
    monkeypatch.setenv("PHOENIX_API_KEY", KEY)
    result = phoenix("list", "--server", "http://nowhere.invalid")
    assert result.stderr.startswith("warning: http://nowhere.invalid is not encrypted")
    assert result.exit_code == 1
