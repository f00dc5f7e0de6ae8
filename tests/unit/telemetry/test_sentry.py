"""Errors go to Sentry, received here by a real HTTP server, and nothing that is secret goes with them."""

from __future__ import annotations

import gzip
import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from phoenix.errors import DatabaseUnavailable, SettingInvalid
from phoenix.telemetry import context
from phoenix.telemetry.logs import configure_logs
from phoenix.telemetry.redaction import KNOWN, know
from phoenix.telemetry.sentry import reporting

SECRET = "correct-horse-7-battery"


class Receiver:
    """Keeps the events of the envelopes that were posted to it."""

    def __init__(self) -> None:
        bodies: list[bytes] = []
        self.bodies = bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                bodies.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = SecretStr(f"http://public0key0of0sentry@127.0.0.1:{self.server.server_port}/7")

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was received, once the sender is done."""
        found = []
        for body in self.bodies:
            lines = [json.loads(line) for line in body.splitlines() if line]
            heads = zip(lines[1::2], lines[2::2], strict=True)
            found += [event for head, event in heads if head["type"] == "event"]
        return found


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing from elsewhere."""
    monkeypatch.setattr(KNOWN, "_forms", ())
    monkeypatch.setattr(KNOWN, "_values", set())


def fail(given: str) -> None:
    local = f"local {given}"  # noqa: F841 - must not be sent
    raise ValueError(f"no use for {given}")


def test_an_error_is_sent_with_ids_and_without_secrets(receiver: Receiver) -> None:
    """Exception, frames and ids arrive; the secret in message, keys and locals does not."""
    know(SECRET)
    configure_logs("info", "json")
    log = structlog.get_logger("phoenix.test")
    with reporting(receiver.dsn), context.bound(project_id="p-1", run_id="r-1", step="code"):
        try:
            fail(SECRET)
        except ValueError as error:
            log.warning("run_failed", error="ValueError", password="hunter2", exc_info=error)
    (event,) = receiver.events
    assert event["logentry"]["formatted"] == "run_failed"
    assert event["tags"] == {"project_id": "p-1", "run_id": "r-1", "step": "code"}
    (raised,) = event["exception"]["values"]
    assert raised["type"] == "ValueError"
    assert raised["value"] == "no use for [secret]"
    assert [frame["function"] for frame in raised["stacktrace"]["frames"]][-1] == "fail"
    sent = b"".join(receiver.bodies).decode()
    assert SECRET not in sent
    assert "hunter2" not in sent
    assert '"vars"' not in sent
    assert "context_line" not in sent
    assert "request" not in event


def test_what_was_foreseen_is_not_sent(receiver: Receiver) -> None:
    """Infos, and warnings about errors that Phoenix has names for, stay here; a library's error goes."""
    configure_logs("info", "json")
    log = structlog.get_logger("phoenix.test")
    with reporting(receiver.dsn):
        log.info("run_taken")
        log.warning("request_failed", exc_info=DatabaseUnavailable())
        logging.getLogger("library").error("it broke with %s", "Bearer abcdefghijklmnop")
    (event,) = receiver.events
    assert event["logentry"]["formatted"] == "it broke with Bearer [secret]"
    assert event["logger"] == "library"


def test_without_a_dsn_nothing_is_done() -> None:
    """No handler is added and the package is not even imported."""
    before = logging.getLogger().handlers[:]
    with reporting(None):
        assert logging.getLogger().handlers == before


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed the start says which one is missing."""
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    with (
        pytest.raises(SettingInvalid, match="not installed") as caught,
        reporting(SecretStr("http://k@127.0.0.1/1")),
    ):
        pass
    assert "phoenix-engine[sentry]" in caught.value.hint
    assert caught.value.field == "PHOENIX_SENTRY_DSN"


def test_a_wrong_dsn_is_refused_without_quoting_it() -> None:
    """The error does not hold what was given."""
    with pytest.raises(SettingInvalid) as caught, reporting(SecretStr("https://0secret0@")):
        pass
    assert "0secret0" not in str(caught.value)
