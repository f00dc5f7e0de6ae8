"""`phoenix history` and `phoenix fork` over a real engine and database."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli.test_commands import Shell, lines, shell  # noqa: F401 a fixture


@pytest.fixture
def project(shell: Shell) -> str:  # noqa: F811
    """Return a project whose one gate was approved by policy."""
    assert shell.run("reviewed", '{"text": "hi"}', "--approve", "auto").exit_code == 0
    return str(lines(shell.phoenix("list", "--json"))[0]["project_id"])


def test_a_history_is_a_table_or_json_lines(shell: Shell, project: str) -> None:  # noqa: F811
    """Each checkpoint's id is one that `fork --at` takes."""
    found = lines(shell.phoenix("history", project[:8], "--json"))
    assert [(f["step"], f["next"], f["asks"], f["value"]) for f in found] == [
        ("start", ["shout"], [], "Note"),
        ("shout", ["note"], ["note"], "Note"),
        ("note", [], [], "Note"),
    ]
    assert all(f["checkpoint"].endswith(f["id"]) and f["cost_usd"] == 0 for f in found)
    table = shell.phoenix("history", project[:8])
    assert table.exit_code == 0
    assert all(f["id"] in table.stdout for f in found)
    one = lines(shell.phoenix("history", project[:8], "--at", found[1]["id"], "--json"))
    assert one == [found[1]]


def test_the_value_at_a_gate_is_edited_as_yaml(shell: Shell, project: str) -> None:  # noqa: F811
    """What `history --yaml` prints is what `fork --edit` takes; the fork is shown for one."""
    form = shell.phoenix("history", project, "--at", "note", "--yaml")
    assert (form.exit_code, form.stdout.splitlines()[-1]) == (0, "text: HI")
    edited = shell.folder / "note.yaml"
    edited.write_text(form.stdout.replace("HI", "edited"))
    done = shell.phoenix(
        *("fork", project[:8], "--at", "note", "--edit", str(edited), "--approve", "ask", "--title", "Mine")
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"text": "edited"}
    assert f"forked from {project[:8]} before note" in done.stderr
    fork, _ = lines(shell.phoenix("list", "--json"))
    assert (fork["title"], fork["status"]) == ("Mine", "delivered")
    shown = json.loads(shell.phoenix("show", fork["project_id"], "--json").stdout)
    assert shown["forked_from"]["project_id"] == project
    assert f"forked from {project[:8]}" in shell.phoenix("show", fork["project_id"]).stdout


def test_a_fork_where_a_person_decides_waits(shell: Shell, project: str) -> None:  # noqa: F811
    """Options that are left out are as in the project; the rest are the fork's own."""
    waiting = shell.phoenix("fork", project, "--at", "note", "--approve", "ask")
    assert (waiting.exit_code, "waiting for someone to decide: note" in waiting.stderr) == (3, True)
    passed = shell.phoenix("fork", project, "--at", "note")
    assert (passed.exit_code, json.loads(passed.stdout)) == (0, {"text": "HI"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--at", "nowhere"], "There is no checkpoint 'nowhere'"),
        ([], "nothing is left to do from there"),
        (["--at", "note", "--edit", "/no/such/file"], "cannot be read"),
        (["--at", "shout", "--edit", "FILE"], "Nothing can be edited"),
        (["--edit", "FILE"], "There is no checkpoint 'spec'"),
        (["--at", "note", "--edit", "BAD"], "text: "),
        (["--at", "note", "--budget-usd", "0"], "not a positive amount"),
        (["--at", "note", "--approve", "ask,auto"], "is no policy"),
        (["--at", "note", "--model", "nobody:m"], "model: "),
    ],
)
def test_a_fork_that_cannot_be_made_says_why(
    shell: Shell,  # noqa: F811
    project: str,
    options: list[str],
    said: str,
) -> None:
    """And leaves no project behind."""
    (shell.folder / "FILE").write_text("text: x\n")
    (shell.folder / "BAD").write_text("txt: x\n")
    given = [str(shell.folder / o) if o in ("FILE", "BAD") else o for o in options]
    refused = shell.phoenix("fork", project, *given)
    assert (refused.exit_code in (1, 2), said in refused.stderr) == (True, True), refused.stderr
    assert len(lines(shell.phoenix("list", "--json"))) == 1


def test_a_history_says_what_it_needs(shell: Shell, project: str) -> None:  # noqa: F811
    """A value is that of one checkpoint; a project must be there."""
    refused = shell.phoenix("history", project, "--yaml")
    assert (refused.exit_code, "Name it too: --at spec" in refused.stderr) == (2, True)
    assert shell.phoenix("history", "00000000").exit_code == 2
