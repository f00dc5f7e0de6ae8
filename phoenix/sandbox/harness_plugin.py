"""Record what each test did, as a pytest plugin that runs inside the sandbox.

Copied into every environment as `phoenix_harness`, so it imports nothing of Phoenix. It appends one
JSON line per event to the file named by PHOENIX_HARNESS_RESULTS; `harness_runner` reads it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

RESULTS = "PHOENIX_HARNESS_RESULTS"
MESSAGE_CHARS = 1000
# A subclass is reported under these names, so that a reader need not know every library's own.
_FAMILIES: tuple[type[BaseException], ...] = (
    ModuleNotFoundError,
    ImportError,
    IndentationError,
    SyntaxError,
    AssertionError,
    NotImplementedError,
)


def pytest_configure(config: pytest.Config) -> None:
    """Record in this process; in a worker of pytest-xdist only describe failures."""
    path = os.environ.get(RESULTS)
    if not path:
        return
    target = None if hasattr(config, "workerinput") else Path(path)
    config.pluginmanager.register(Recorder(Path(config.rootpath), target), "phoenix-recorder")


class Recorder:
    """Writes results as they come, so that a killed run still tells how far it got."""

    def __init__(self, root: Path, target: Path | None) -> None:
        self._roots = (str(root) + os.sep, os.path.realpath(root) + os.sep)
        # Tests may leave the folder read-only or change into another: the file is opened once, here.
        self._file = target.open("a", encoding="utf-8", errors="backslashreplace") if target else None

    def _write(self, **line: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, Any, None]:
        """Describe the exception while it is at hand; the report travels, the exception does not."""
        outcome = yield
        report = outcome.get_result()
        if call.excinfo is not None and report.failed:
            report.phoenix_failure = self._describe(call.excinfo)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note the test that runs now."""
        self._write(event="start", id=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note one phase of one test."""
        failure: dict[str, Any] = getattr(report, "phoenix_failure", None) or {}
        message = str(failure.get("message", ""))
        if not message and report.outcome != "passed":
            message = _reason(report)
        self._write(
            event="report",
            id=report.nodeid,
            when=report.when,
            outcome=report.outcome,
            seconds=report.duration,
            error=failure.get("error", ""),
            where=failure.get("where", ""),
            line=failure.get("line", 0),
            message=message[:MESSAGE_CHARS],
        )

    def pytest_sessionfinish(self) -> None:
        """Note that pytest came to its end: what ends the process before leaves tests out unseen."""
        self._write(event="end")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that could not be collected."""
        if report.failed:
            lines = [x[1:].strip() for x in report.longreprtext.splitlines() if x.startswith("E ")]
            message = "\n".join(lines) or report.longreprtext
            name = (lines[-1] if lines else "").split(":")[0]
            self._write(
                event="collect",
                id=report.nodeid,
                error=name if name.isidentifier() else "",
                message=message[:MESSAGE_CHARS],
            )

    def _describe(self, excinfo: pytest.ExceptionInfo[BaseException]) -> dict[str, Any]:
        error = excinfo.value
        while sys.version_info >= (3, 11) and isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        where, line = self._last_frame(error)
        kind = next((f for f in _FAMILIES if isinstance(error, f)), type(error))
        text = pytest.ExceptionInfo.from_exception(error).exconly() if error.__traceback__ else ""
        return {"error": kind.__name__, "where": where, "line": line, "message": text[:MESSAGE_CHARS]}

    def _last_frame(self, error: BaseException) -> tuple[str, int]:
        """Return the deepest frame whose file is the repository's own, and its line."""
        where, line = "", 0
        trace = error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            for root in self._roots:
                if name.startswith(root) and "site-packages" not in name:
                    where, line = name[len(root) :].replace(os.sep, "/"), trace.tb_lineno
            trace = trace.tb_next
        return where, line


def _reason(report: pytest.TestReport) -> str:
    """Say why a test was skipped, or failed without an exception."""
    if hasattr(report, "wasxfail"):
        return f"xfail: {report.wasxfail}"
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext
