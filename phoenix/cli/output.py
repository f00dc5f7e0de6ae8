"""How a command ends: its exit code, and what it says on standard error."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

import typer

from phoenix.cli.escape import clean
from phoenix.errors import DomainInvalid, FlowInvalid, InputError, PhoenixError, StepTypeMismatch
from phoenix.telemetry.redaction import KNOWN, hide_addresses, mask

DELIVERED = 0
FAILED = 1
USAGE = 2
WAITING = 3
STOPPED = 130
TERMINATED = 143
CLOSED_PIPE = 141

BAD_USAGE = (InputError, DomainInvalid, FlowInvalid, StepTypeMismatch)
"""Errors that the command line itself is at fault for, as long as no project has begun."""


@dataclass
class Standing:
    """The project this process follows: named when the process ends before the project does."""

    project_id: str = ""
    is_here: bool = True
    """This process works on it; else a service does, and goes on without."""

    def begin(self, project_id: str, *, is_here: bool = True) -> None:
        """Take in which project it is."""
        self.project_id, self.is_here = project_id, is_here

    @property
    def next(self) -> str:
        """The command to go on with."""
        return f"phoenix {'resume' if self.is_here else 'watch'} {self.project_id[:8]}"


standing = Standing()


def quick_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop for what serves many requests: the one in C, where it is to be had."""
    try:
        import uvloop
    except ImportError:  # it is not everywhere to be had
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def finish(
    command: Coroutine[Any, Any, int],
    *,
    as_json: bool = False,
    loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> NoReturn:
    """Run a command to its end and exit with its code; an error of Phoenix becomes one message.

    Args:
        command: What is run.
        as_json: An error is also said as JSON.
        loop: Makes the event loop that it runs in; None takes Python's own.
    """
    standing.begin("")
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            code = runner.run(_terminable(command))
        sys.stdout.flush()
    except PhoenixError as error:
        code = exit_code_of(error)
        report(error, as_json=as_json)
    except KeyboardInterrupt:
        code = _stopped(STOPPED, as_json=as_json)
    except asyncio.CancelledError:
        code = _stopped(TERMINATED, as_json=as_json)
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = CLOSED_PIPE
    raise typer.Exit(code)


async def _terminable(command: Coroutine[Any, Any, int]) -> int:
    """Let SIGTERM stop the command as Ctrl-C does: what runs is handed back."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await command


def exit_code_of(error: PhoenixError) -> int:
    """Return 2 for bad usage, else 1; once a project has begun, everything is 1."""
    return USAGE if isinstance(error, BAD_USAGE) and not standing.project_id else FAILED


def report(error: PhoenixError, *, as_json: bool = False) -> None:
    """Say what went wrong and what to do, on standard error; with JSON the last line says it too."""
    where = f"{error.field}: " if error.field else ""
    say(mask(f"error: {where}{error.message}"))
    if error.hint:
        say(f"hint: {error.hint}")
    if standing.project_id:
        say(f"hint: Nothing is lost; go on with: {standing.next}")
    if as_json:
        about = {"code": error.code, "category": error.category, "message": str(error)}
        # A project that has begun has not failed by this: its row says how it stands.
        status = "stopped" if standing.project_id else "failed"
        status = "refused" if exit_code_of(error) == USAGE else status
        print_json(summary_of(standing.project_id or None, status) | {"error": about})


def _stopped(code: int, *, as_json: bool) -> int:
    if standing.project_id:
        said = "stopped" if standing.is_here else "no longer followed"
        say(f"{said}; go on with: {standing.next}")
    if as_json:
        print_json(summary_of(standing.project_id or None, "stopped"))
    return code


def summary_of(project_id: str | None, status: str) -> dict[str, Any]:
    """Return the last JSON line of a command with nothing filled in."""
    return {
        "project_id": project_id,
        "status": status,
        "branch": None,
        "commit": None,
        "evidence": None,
        "cost_usd": None,
        "tasks": [],
    }


def say(text: str) -> None:
    """Print a line to standard error."""
    typer.echo(clean(text), err=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, without known secrets and the credentials of addresses."""
    text = json.dumps(value, ensure_ascii=True, default=str)
    typer.echo(KNOWN.mask(hide_addresses(text))[0])
