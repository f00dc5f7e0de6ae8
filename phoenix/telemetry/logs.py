"""Set up structlog once a process."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Literal, TextIO

import structlog

from phoenix.telemetry import context
from phoenix.telemetry.redaction import KNOWN, mask_line, mask_shapes, redact_named
from phoenix.telemetry.tracing import add_trace_ids

ABOUT: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    add_trace_ids,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]
"""What each record is given beside its own keys, Phoenix's as well as libraries'."""

_PLAIN = frozenset(
    {"timestamp", "level", "trace_id", "span_id", *context.NAMES} - {"task", "step", "request_id"}
)
"""Keys whose values are Phoenix's own."""


def without_secrets(
    _logger: Any, _name: str, record: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Mask a record by the names and forms of its values; formatted tracebacks are among them.

    Values that this process knows are masked in what is written, all at once.
    """
    for name, value in record.items():
        if name not in _PLAIN:
            record[name] = redact_named(name, value, masking=mask_shapes)
    return record


class _Handler(logging.StreamHandler[TextIO]):
    """Writes records; a last look at what is written finds known values wherever they got in."""

    def format(self, record: logging.LogRecord) -> str:
        return KNOWN.mask(super().format(record))[0]

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say that a record cannot be written, without its arguments."""
        kind, error, _ = sys.exc_info()
        if logging.raiseExceptions and kind is not None and not issubclass(kind, BrokenPipeError):
            said = mask_line(f"A log record of {record.name} cannot be written: {kind.__name__}: {error}")
            sys.stderr.write(said + "\n")


def configure_logs(
    level: str = "warning",
    style: Literal["auto", "text", "json"] = "auto",
    *,
    quiet: Sequence[str] = (),
    more: Sequence[structlog.typing.Processor] = (),
) -> None:
    """Send logs of Phoenix and of its libraries to standard error, with bound context and without secrets.

    Args:
        level: The least level that is shown.
        style: How a record is written; `auto` is text at a terminal and JSON elsewhere.
        quiet: Libraries of which only warnings are.
        more: What else each record passes, once it is without secrets.
    """
    context.inherit()
    is_terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[*ABOUT, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if style == "json" or (style == "auto" and not is_terminal)
        else structlog.dev.ConsoleRenderer(colors=is_terminal)
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=ABOUT,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                without_secrets,
                *more,
                render,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _crashed


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what ends the process as Python does, without secrets."""
    sys.stderr.write(mask_line("".join(traceback.format_exception(kind, error, trace))))
