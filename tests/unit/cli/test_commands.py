"""Commands over a real engine and database: a flow of one's own, with people in it."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app

FLOWS = """
import asyncio
from pathlib import Path

from pydantic import BaseModel

from phoenix.flow import approve, step

HERE = Path(__file__).parent


class Note(BaseModel, frozen=True):
    text: str


@step
async def shout(note: Note) -> Note:
    return Note(text=note.text.upper())


@step
async def greet(name: str) -> str:
    return f"hello {name}"


@step
async def stumble(name: str) -> str:
    if not (HERE / "mended").exists():
        raise ValueError("the \\x1b[31mbridge is out")
    return name


@step
async def linger(name: str) -> str:
    (HERE / "lingering").touch()
    while not (HERE / "mended").exists():
        await asyncio.sleep(0.05)
    return name


reviewed = shout >> approve("note", revise=shout)
"""


class Shell:
    """A user's shell in a folder with flows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = f"recorded:{folder / 'none.jsonl'}"

    def flow(self, name: str) -> str:
        return f"{self.folder / 'flows.py'}:{name}"

    def phoenix(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def run(self, name: str, value: str, *options: str) -> Result:
        return self.phoenix("run", self.flow(name), value, "--model", self.model, *options)

    def command(self, name: str, value: str) -> list[str]:
        return [sys.executable, "-m", "phoenix", "run", self.flow(name), value, "--model", self.model]


@pytest.fixture
def shell(tmp_path: Path, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    (tmp_path / "flows.py").write_text(FLOWS)
    (tmp_path / "none.jsonl").write_text('{"format":"phoenix-recording","version":1,"model":"none"}\n')
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PHOENIX_SANDBOX", "host")
    return Shell(tmp_path)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_flow_runs_and_prints_nothing_but_its_output(shell: Shell) -> None:
    """Progress goes to standard error; text needs no quotes."""
    result = shell.run("greet", "Ada")
    assert (result.exit_code, json.loads(result.stdout)) == (0, "hello Ada")
    assert "greet done" in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("shout", '{"txt": 1}', "text: Field required"),
        ("shout", "{", "It is not JSON"),
        ("missing", "1", "has no 'missing'"),
    ],
)
def test_input_that_does_not_fit_starts_nothing(shell: Shell, name: str, value: str, said: str) -> None:
    """No project is left behind."""
    result = shell.run(name, value)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "no projects yet" in shell.phoenix("list").stdout


def test_a_gate_without_a_person_waits_and_goes_on_when_decided(shell: Shell) -> None:
    """Exit code 3 with the commands to type; a decision that does not fit is refused first."""
    result = shell.run("reviewed", '{"text": "hi"}')
    assert (result.exit_code, result.stdout) == (3, "")
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    assert f"phoenix approve {project[:8]}" in result.stderr
    assert "HI" in shell.phoenix("show", project[:6]).stdout
    assert shell.phoenix("resume", project).exit_code == 3

    form = shell.folder / "form.yaml"
    form.write_text("text: [1]\n")
    refused = shell.phoenix("approve", project, "--verdict", "edit", "--file", str(form))
    assert (refused.exit_code, "text: Input should be a valid string" in refused.stderr) == (2, True)
    form.write_text("text: edited\n")
    assert shell.phoenix("approve", project, "--verdict", "edit", "--file", str(form)).exit_code == 0
    assert shell.phoenix("approve", project).exit_code == 2

    done = shell.phoenix("resume", project)
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"text": "edited"})
    again = shell.phoenix("resume", project)
    assert (again.exit_code, json.loads(again.stdout)) == (0, {"text": "edited"})
    assert lines(shell.phoenix("show", project, "--json"))[0]["status"] == "delivered"


def test_json_is_events_and_last_the_summary(shell: Shell) -> None:
    """Nothing else is on standard output, also where somebody is waited for."""
    result = shell.run("reviewed", '{"text": "hi"}', "--json")
    *events, last = lines(result)
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1]["kind"] == "run_waiting"
    assert (result.exit_code, last["status"], last["waiting_for"][0]["name"]) == (3, "waiting", "note")
    assert set(last) >= {"project_id", "status", "branch", "commit", "evidence", "cost_usd", "tasks"}


def test_a_failed_run_says_why_and_is_tried_again_by_resume(shell: Shell) -> None:
    """The step's own error, without a traceback; what it says cannot act on the terminal."""
    result = shell.run("stumble", "Ada")
    assert result.exit_code == 1
    assert "failed in step stumble: ValueError: the ␛[31mbridge is out" in result.stderr
    assert "Traceback" not in result.output
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    failed = shell.phoenix("resume", project, "--json")
    assert (failed.exit_code, lines(failed)[-1]["status"]) == (1, "failed")
    assert "bridge is out" in lines(failed)[-1]["error"]["message"]
    (shell.folder / "mended").touch()
    done = shell.phoenix("resume", project)
    assert (done.exit_code, json.loads(done.stdout)) == (0, "Ada")


def test_resume_raises_the_budget(shell: Shell) -> None:
    """Only upwards, and only where there is one."""
    assert shell.run("stumble", "Ada", "--budget-usd", "1.50").exit_code == 1
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    for wrong, said in (("1.50", "not more"), ("0", "not a positive amount"), ("x", "not an amount")):
        refused = shell.phoenix("resume", project, "--budget-usd", wrong)
        assert (refused.exit_code, said in refused.stderr) == (2, True)
    (shell.folder / "mended").touch()
    done = shell.phoenix("resume", project, "--budget-usd", "$2")
    assert done.exit_code == 0, done.output
    assert (done.exit_code, json.loads(done.stdout)) == (0, "Ada")
    assert "budget raised from $1.50 to $2" in done.stderr

    (shell.folder / "mended").unlink()
    shell.run("stumble", "Ada")
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    refused = shell.phoenix("resume", project, "--budget-usd", "2")
    assert (refused.exit_code, "has no budget" in refused.stderr) == (2, True)


def test_a_flow_that_asks_no_model_needs_none(shell: Shell) -> None:
    """There is no key here, and no model is named."""
    result = shell.phoenix("run", shell.flow("greet"), "Ada")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == "hello Ada"


def test_what_a_policy_decides_is_shown(shell: Shell) -> None:
    """Nobody was asked, and the screen says so."""
    result = shell.run("reviewed", '{"text": "hi"}', "--approve", "auto")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"text": "HI"})
    assert "note: approved by policy (--approve)" in result.stderr


def test_an_unknown_project_is_bad_usage(shell: Shell) -> None:
    """Its message names the way to find one."""
    for command in ("show", "resume", "approve"):
        result = shell.phoenix(command, "00000000")
        assert (result.exit_code, "phoenix list" in result.stderr) == (2, True)


def test_a_project_whose_model_gives_up_fails_with_a_reason(shell: Shell) -> None:
    """Here a recording without answers; the project is kept, and can be shown and tried again."""
    result = shell.phoenix("new", "Make a list\nwith lines", "--model", shell.model, "--json")
    last = lines(result)[-1]
    assert (result.exit_code, last["status"], last["error"]["code"]) == (1, "failed", "recording_missing")
    assert last["error"]["step"] == "triage"
    assert last["project_id"]
    shown = shell.phoenix("show", last["project_id"][:8])
    assert "Make a list" in shown.stdout
    assert "Failed in triage" in shown.stdout
    assert f"phoenix resume {last['project_id'][:8]}" in shown.stdout
    assert "failed" in shell.phoenix("list").stdout


def test_an_unknown_model_starts_nothing(shell: Shell) -> None:
    """A recording that is not there, or a provider nobody knows."""
    for model in ("recorded:/no/such/file", "nobody:m", "openai"):
        result = shell.phoenix("new", "Make a list", "--model", model)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: model: ")
    assert "no projects yet" in shell.phoenix("list").stdout


def test_a_home_that_cannot_be_made_is_said(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the setting that names another."""
    monkeypatch.setenv("PHOENIX_HOME", str(shell.folder / "flows.py" / "home"))
    result = shell.run("greet", "Ada")
    assert (result.exit_code, "Set PHOENIX_HOME" in result.stderr) == (1, True)


@pytest.mark.slow
def test_ctrl_c_hands_back_and_resume_goes_on(shell: Shell) -> None:
    """The command to go on with is the last thing said."""
    process = subprocess.Popen(
        shell.command("linger", "Ada"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may ignore Ctrl-C, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    try:
        while not (shell.folder / "lingering").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == f"stopped; go on with: phoenix resume {project[:8]}"
    assert "Traceback" not in err
    (shell.folder / "mended").touch()
    done = shell.phoenix("resume", project)
    assert (done.exit_code, json.loads(done.stdout)) == (0, "Ada")


@pytest.mark.slow
def test_a_person_at_the_terminal_decides(shell: Shell) -> None:
    """The live board makes room for the question, and the run goes on at once."""
    child, terminal = pty.fork()
    if child == 0:
        command = shell.command("reviewed", '{"text": "hi"}')
        os.execve(command[0], command, os.environ | {"TERM": "xterm", "EDITOR": "sed -i s/HI/edited/"})
    saw, typed = b"", [b"e\n"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            saw += os.read(terminal, 65536)
        except OSError:
            break
        if typed and saw.rstrip().endswith(b"reason:"):
            os.write(terminal, typed.pop())
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.close(terminal)
    assert code == 0, saw.decode()
    assert "To decide: note" in saw.decode()
    assert '{"text": "edited"}' in saw.decode()
