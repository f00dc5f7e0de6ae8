"""Run a project's tests with pytest in a fresh sandbox, and judge how they fail."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import secrets
import shlex
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from phoenix.domain.evidence import Outcome, SuiteResult, TestResult
from phoenix.domain.execution import Environment, ExecuteResult
from phoenix.ports import Provisioner, Sandboxes

GRACE_SECONDS = 15.0
"""The sandbox waits this much longer than the runner inside, which then still reports."""
OUTPUT_CHARS = 30_000
RESULT_BYTES = 64 * 1024**2
TESTS = 20_000
_ORDER = "PHOENIX_HARNESS_ORDER"
_RUNNER = "python -I -B -m phoenix_harness_run"
_GREEN = ("passed", "skipped")
_NOT_THE_CODES_OWN = frozenset({"ModuleNotFoundError", "ImportError", "SyntaxError", "IndentationError"})
# ANSI sequences, and what neither a terminal nor PostgreSQL should be shown.
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]|[\ud800-\udfff]")


class PytestHarness:
    """Runs tests with the project's own dependencies; implements the port `Harness`."""

    def __init__(self, sandboxes: Sandboxes, provisioner: Provisioner) -> None:
        self._sandboxes = sandboxes
        self._provisioner = provisioner

    async def run(
        self,
        workspace: Path,
        *,
        paths: Sequence[str] = (),
        sealed: bool = False,
        timeout_seconds: float = 300.0,
    ) -> SuiteResult:
        """Run the repository's tests, or some of them, in a fresh sandbox.

        `sealed` ignores every configuration and conftest that the repository brings. A test that did
        not end, or that ended the whole process, has the outcome `error`. The exit code is pytest's
        (5: there were no tests), or None when the run was stopped.

        Raises:
            ProvisionFailed: something the project declares cannot be installed.
        """
        environment = await self._provisioner.provision(workspace)
        sandbox = self._sandboxes.open(workspace, environment=environment)
        nonce = secrets.token_hex(16)
        targets = [f"./{p}" if p.startswith("-") else p for p in paths]
        order = {"nonce": nonce, "sealed": sealed, "seconds": timeout_seconds, "paths": targets}
        done = await sandbox.execute(
            _RUNNER,
            timeout_seconds=timeout_seconds + GRACE_SECONDS,
            variables={_ORDER: json.dumps(order)},
        )
        show = _Shown(sandbox.root, workspace, environment)
        command = shlex.join(["python", "-m", "pytest", *(["--noconftest"] if sealed else []), *paths])
        report = _unpack(done.stdout, nonce)
        if report is None:
            return SuiteResult(command=command, exit_code=None, output=show.text(_unreported(done)))
        stopped = bool(report.get("timeout"))
        reason = f"The run was stopped after {timeout_seconds:g} s." if stopped else ""
        code = report.get("exit")
        tests = _results(report, reason or f"The test process ended with exit code {code}", show)
        if not stopped and not report.get("ended") and all(t.outcome in _GREEN for t in tests):
            tests.append(_cut_short(code))
        output = show.text(str(report.get("output", "")))[-OUTPUT_CHARS:].strip()
        return SuiteResult(
            command=command,
            exit_code=code if isinstance(code, int) and not stopped else None,
            tests=tests,
            output=f"{output}\n{reason}".strip(),
        )

    def red(self, result: TestResult) -> bool:
        """Tell whether a failure is the code's own.

        It is when an assertion failed, or an exception came out of the project's code. It is not when
        the test could not be set up or collected, when something is missing that it imports, or when
        the exception came from the test itself: that shows a mistake in the test.
        """
        if result.outcome != "failed" or result.error in _NOT_THE_CODES_OWN or not result.where:
            return False
        if result.error in {"AssertionError", "Failed"}:
            return True
        return not _is_test_code(result.where, result.id)


def _is_test_code(where: str, test_id: str) -> bool:
    name = PurePosixPath(where).name
    if where == test_id.partition("::")[0] or name == "conftest.py":
        return True
    return name.startswith("test_") or name.endswith("_test.py")


class _Shown:
    """Text from the sandbox as its readers see it: relative paths, printable, the same on every machine."""

    def __init__(self, root: str, workspace: Path, environment: Environment) -> None:
        roots = {root, str(workspace), str(workspace.resolve())}
        self._roots = [re.compile(re.escape(r) + r"(/|(?![\w.-]))") for r in sorted(roots, key=len)[::-1]]
        python = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
        places = {str(environment.root): "<environment>", f"{sys.base_prefix}/{python}": f"<python>/{python}"}
        # pytest names files outside by whichever is shorter, the path or the way there.
        self._places = {os.path.relpath(place, root): name for place, name in places.items()} | places

    def text(self, text: str) -> str:
        """Return the text with the workspace as `.` and without what cannot be shown."""
        text = _UNPRINTABLE.sub("", text.replace("\r\n", "\n"))
        for place, name in self._places.items():
            text = text.replace(f"{place}/", f"{name}/")
        for root in self._roots:
            text = root.sub(lambda m: "" if m.group(1) else ".", text)
        return text


def _unpack(stdout: str, nonce: str) -> dict[str, Any] | None:
    """Read the runner's one line; None when there is none, as when it was killed."""
    line = next((x for x in reversed(stdout.splitlines()) if x.startswith(f"{nonce} ")), None)
    if line is None:
        return None
    unzip = zlib.decompressobj()
    try:
        value = json.loads(unzip.decompress(base64.b64decode(line[len(nonce) + 1 :]), RESULT_BYTES))
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("tests"), list) else None


def _unreported(done: ExecuteResult) -> str:
    ended = f"killed: {done.killed}" if done.killed else f"exit code {done.exit_code}"
    printed = f"{done.stdout[-OUTPUT_CHARS:]}\n{done.stderr[-OUTPUT_CHARS:]}".strip()
    return f"{printed}\nThe test run ended without a result ({ended}).".strip()


def _cut_short(code: object) -> TestResult:
    """Return what stands for tests that were left out since the process ended between two tests."""
    said = f"The test process ended with exit code {code} before the run was over: tests were left out."
    return TestResult(id="pytest", outcome="error", message=said)


def _results(report: dict[str, Any], unfinished: str, show: _Shown) -> list[TestResult]:
    """Return one result a test; foreign values that fit no result are left out."""
    results: list[TestResult] = []
    for test in report["tests"][:TESTS]:
        try:
            results.append(_result(test, unfinished, show))
        except (ValidationError, AttributeError, TypeError, ValueError):
            continue
    return results


def _result(test: dict[str, Any], unfinished: str, show: _Shown) -> TestResult:
    error, where = show.text(str(test.get("error") or "")), show.text(str(test.get("where") or ""))
    message = show.text(str(test.get("message") or ""))
    outcome: Outcome = test["outcome"] or "error"
    if not test["outcome"]:
        message = f"{unfinished} during this test."
    elif error:
        said = message.removeprefix(error).removeprefix(":").strip()
        place = f" in {where}:{test.get('line')}" if where else ""
        message = f"{error}{place}: {said}"
    return TestResult(
        id=show.text(str(test["id"])),
        outcome=outcome,
        seconds=round(float(test.get("seconds", 0.0)), 4),
        error=error,
        where=where,
        message=message,
    )
