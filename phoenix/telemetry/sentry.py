"""Errors that nobody foresaw, sent to Sentry or to what speaks its protocol; off unless a DSN is set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from phoenix import __version__
from phoenix.errors import PhoenixError, SettingInvalid
from phoenix.telemetry import context
from phoenix.telemetry.redaction import know, mask_line, redact

if TYPE_CHECKING:
    from sentry_sdk import Client

FIELD = "PHOENIX_SENTRY_DSN"
FLUSH_SECONDS = 3.0
"""How long the end of the process waits for what is not yet sent."""
LOUD = ("sentry_sdk", "urllib3")
"""Loggers of the sender: its own troubles are not sent."""
_KEPT = ("event_id", "timestamp", "level", "logger", "platform", "release", "environment", "sdk")


@contextmanager
def reporting(dsn: SecretStr | None) -> Iterator[None]:
    """Send errors within the body: records of that level, and warnings with an exception not of Phoenix.

    Without a DSN nothing is done. What the level of the logs leaves out is not sent. Sent are the exception
    with its frames, the record's name and keys, and ids as tags. Bodies of requests, local variables, source
    lines and what led to it are never taken up.

    Raises:
        SettingInvalid: the package is not installed, or this is no DSN.
    """
    if dsn is None or not dsn.get_secret_value():
        yield
        return
    know(dsn)
    client = _client(dsn.get_secret_value())
    handler = SentryHandler(client)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        client.close(timeout=FLUSH_SECONDS)


def _client(dsn: str) -> Client:
    try:
        from sentry_sdk import Client
        from sentry_sdk.utils import BadDsn
    except ImportError as error:
        raise SettingInvalid(
            "Errors are to be sent to Sentry, but its package is not installed.",
            field=FIELD,
            hint="Install it: pip install 'phoenix-engine[sentry]', or leave the DSN out.",
        ) from error
    try:
        return Client(
            dsn=dsn,
            release=f"phoenix@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            send_client_reports=False,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            enable_metrics=False,
            before_send=without_secrets,
        )
    except BadDsn:
        # Its text quotes the DSN.
        raise SettingInvalid("This is no DSN of Sentry.", field=FIELD) from None


def without_secrets(event: Any, _hint: dict[str, Any]) -> Any:
    """Mask an event, whatever put it together, but for what identifies it."""
    kept = {name: event[name] for name in _KEPT if name in event}
    return {**redact({n: v for n, v in event.items() if n not in kept}), **kept}


class SentryHandler(logging.Handler):
    """Sends errors, and warnings with an exception that nobody foresaw.

    Args:
        client: Queues them and sends them from a thread of its own; what cannot be sent is dropped.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(logging.WARNING)
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record; logging goes on when that fails."""
        if record.name.partition(".")[0] in LOUD:
            return
        try:
            event = self._event(record)
            if event is not None:
                self._client.capture_event(event)
        except Exception:  # noqa: BLE001 a report of an error must not become one
            self.handleError(record)

    def _event(self, record: logging.LogRecord) -> Any:
        from sentry_sdk.utils import event_from_exception

        # Records of structlog carry their keys as the message.
        keys: dict[str, Any] = dict(record.msg) if isinstance(record.msg, dict) else {}
        message = str(keys.pop("event", "")) or record.getMessage()
        error = _exception(keys.pop("exc_info", None) or record.exc_info)
        if record.levelno < logging.ERROR and (error is None or isinstance(error, PhoenixError)):
            return None
        event: Any = {}
        if error is not None:
            event, _ = event_from_exception(error, client_options=self._client.options)
        tags = {name: str(keys.pop(name)) for name in context.NAMES if name in keys}
        keys.pop("timestamp", None)
        return {
            **event,
            "level": record.levelname.lower().replace("critical", "fatal"),
            "logger": record.name,
            "logentry": {"formatted": mask_line(message)},
            "tags": {**context.current(), **tags},
            "extra": redact(keys),
        }


def _exception(given: Any) -> BaseException | None:
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple) and len(given) == 3 and isinstance(given[1], BaseException):
        return given[1]
    return None
