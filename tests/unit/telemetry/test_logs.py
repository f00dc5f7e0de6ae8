"""Records are JSON with ids, over awaits and processes, and hold no secret."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import structlog

from phoenix.telemetry import context
from phoenix.telemetry.logs import configure_logs
from phoenix.telemetry.redaction import KNOWN, know

SECRET = "correct-horse-7-battery"


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Know nothing from elsewhere, and bind nothing for later tests."""
    monkeypatch.setattr(KNOWN, "_forms", ())
    monkeypatch.setattr(KNOWN, "_values", set())
    structlog.contextvars.clear_contextvars()


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what was logged."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


async def test_ids_reach_what_is_awaited_and_started(capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks begin with the ids of who starts them, and what they bind themselves stays theirs."""
    configure_logs("info", "json")
    log = structlog.get_logger("phoenix.test")

    async def work(step: str) -> None:
        context.bind(step=step)
        await asyncio.sleep(0)
        log.info("worked")
        logging.getLogger("library").warning("a library speaks")

    with context.bound(project_id="p-1", run_id="r-1", task=""):
        await asyncio.gather(work("one"), work("two"))
        log.info("ended")
    log.info("after")
    said = records(capsys)
    assert sorted((r["event"], r.get("step")) for r in said if r["event"] != "after") == [
        ("a library speaks", "one"),
        ("a library speaks", "two"),
        ("ended", None),
        ("worked", "one"),
        ("worked", "two"),
    ]
    assert {(r["project_id"], r["run_id"]) for r in said[:-1]} == {("p-1", "r-1")}
    assert "task" not in said[0]
    assert "project_id" not in said[-1]
    assert all(r["timestamp"].endswith("Z") and r["level"] for r in said)


def test_a_process_goes_on_with_the_ids_of_the_one_that_starts_it() -> None:
    """They come by a variable, which it does not hand on by itself."""
    code = (
        "import os, structlog\n"
        "from phoenix.telemetry.logs import configure_logs\n"
        "configure_logs('info', 'json')\n"
        "structlog.get_logger('x').info('begun', left=os.environ.get('PHOENIX_LOG_CONTEXT'))\n"
    )
    with context.bound(project_id="p-1", step="code"):
        environment = context.for_process(os.environ)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    (said,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (said["project_id"], said["step"], said["left"]) == ("p-1", "code", None)
    assert context.VARIABLE not in context.for_process({"PATH": "/bin", context.VARIABLE: "{}"})


@pytest.mark.parametrize("given", ["nonsense", "[1]", '{"other": "x"}', '{"step": {}}'])
def test_what_cannot_be_read_of_a_parent_binds_nothing_else(given: str) -> None:
    """A start does not fail over it, and no other names are taken in."""
    context.inherit({context.VARIABLE: given})
    assert set(structlog.contextvars.get_contextvars()) <= {"step"}


def test_secrets_do_not_reach_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Not in messages, keys, objects or tracebacks, of Phoenix or of libraries."""
    know(SECRET)
    configure_logs("info", "json")
    log = structlog.get_logger("phoenix.test")

    class Odd:
        def __repr__(self) -> str:
            return f"Odd({SECRET!r})"

    try:
        raise ValueError(f"refused {SECRET}")
    except ValueError as error:
        log.warning("failed", exc_info=error, headers={"Authorization": "abc"}, odd=Odd(), **{SECRET: 1})
        logging.getLogger("library").exception("sent %s", "https://bot:hunter22@h/")
    said = capsys.readouterr().err
    assert SECRET not in said
    assert "hunter22" not in said
    assert "abc" not in said
    first, second = (json.loads(line) for line in said.splitlines())
    assert "ValueError: refused [secret]" in first["exception"]
    assert first["headers"] == {"Authorization": "[secret]"}
    assert "ValueError: refused [secret]" in second["exception"]


def test_text_is_written_without_secrets_too(capsys: pytest.CaptureFixture[str]) -> None:
    """The form for people passes the same."""
    know(SECRET)
    configure_logs("info", "text")
    structlog.get_logger("phoenix.test").info("asked", question=f"is it {SECRET}?", api_key="abc")
    said = capsys.readouterr().err
    assert "is it [secret]?" in said
    assert SECRET not in said
    assert "abc" not in said


def test_a_record_that_cannot_be_written_is_named_without_its_arguments(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The library would print them all."""
    configure_logs("info", "json")
    logging.getLogger("library").warning("%d of them", "password=hunter22")
    said = capsys.readouterr().err
    assert "A log record of library cannot be written" in said
    assert "hunter22" not in said


def test_what_ends_the_process_is_said_without_secrets() -> None:
    """Python's own last words pass the mask."""
    code = (
        "from phoenix.telemetry.logs import configure_logs\n"
        "from phoenix.telemetry.redaction import know\n"
        f"know({SECRET!r})\n"
        "configure_logs()\n"
        f"raise RuntimeError('lost ' + {SECRET[:9]!r} + {SECRET[9:]!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "RuntimeError: lost [secret]" in done.stderr
    assert SECRET not in done.stderr
