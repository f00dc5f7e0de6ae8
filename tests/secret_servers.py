"""Small servers that speak what Vault and AWS Secrets Manager speak, over real HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class VaultState:
    """What a Vault holds, and what it has handed out."""

    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By mount/path."""
    tokens: set[str] = field(default_factory=lambda: {"s.root"})
    role_ids: dict[str, str] = field(default_factory=dict)
    jwts: dict[str, str] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    renewed: int = 0
    broken: bool = False
    url: str = ""


@contextmanager
def vault() -> Iterator[VaultState]:  # noqa: C901 one small server
    """Yield a Vault: KV version 2, and the logins token, AppRole and Kubernetes."""
    state = VaultState()

    class Handler(_Quiet):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(self.body())

        do_PUT = do_POST

        def _answer(self, body: dict[str, Any]) -> None:
            path = self.path.removeprefix("/v1/")
            if state.broken:
                self.send(500, {"errors": ["internal"]})
            elif path.endswith("/login"):
                self._login(path, body)
            elif self.headers.get("X-Vault-Token") not in state.tokens:
                self.send(403, {"errors": ["permission denied"]})
            elif path == "auth/token/lookup-self":
                self.send(200, {"data": {"renewable": True, "ttl": 60}})
            elif path == "auth/token/renew-self":
                state.renewed += 1
                self.send(200, {"auth": {"client_token": self.headers["X-Vault-Token"]}})
            else:
                self._read(path)

        def _login(self, path: str, body: dict[str, Any]) -> None:
            if "role_id" in body:
                ok = state.role_ids.get(body["role_id"]) == body.get("secret_id")
            else:
                ok = state.jwts.get(body.get("role", "")) == body.get("jwt")
            if not ok:
                self.send(400, {"errors": ["invalid role or secret"]})
                return
            token = f"s.{path.replace('/', '-')}-{len(state.tokens)}"
            state.tokens.add(token)
            self.send(200, {"auth": {"client_token": token, "renewable": True}})

        def _read(self, path: str) -> None:
            mount, _, rest = path.partition("/data/")
            name = f"{mount}/{rest}"
            state.reads.append(name)
            if name not in state.secrets:
                self.send(404, {"errors": []})
                return
            self.send(200, {"data": {"data": state.secrets[name], "metadata": {"version": 1}}})

    with _serving(Handler) as url:
        state.url = url
        yield state


@dataclass
class AwsState:
    """What a Secrets Manager holds."""

    secrets: dict[str, str] = field(default_factory=dict)
    broken: bool = False
    url: str = ""


@contextmanager
def secrets_manager() -> Iterator[AwsState]:
    """Yield an AWS Secrets Manager that answers GetSecretValue."""
    state = AwsState()

    class Handler(_Quiet):
        def do_POST(self) -> None:
            name = self.body()["SecretId"]
            assert self.headers["X-Amz-Target"] == "secretsmanager.GetSecretValue"
            assert self.headers["Authorization"].startswith("AWS4-HMAC-SHA256")
            if state.broken:
                self.send(500, {"__type": "InternalServiceError", "message": "x"})
            elif name not in state.secrets:
                self.send(400, {"__type": "ResourceNotFoundException", "message": "x"})
            else:
                self.send(200, {"Name": name, "SecretString": state.secrets[name]})

    with _serving(Handler) as url:
        state.url = url
        yield state


class _Quiet(http.server.BaseHTTPRequestHandler):
    def body(self) -> dict[str, Any]:
        found = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        assert isinstance(found, dict)
        return found

    def send(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
