"""`phoenix policy` and `phoenix message`."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from typer.testing import CliRunner

from phoenix.bootstrap import service_rules
from phoenix.cli.app import app
from phoenix.cli.new import NewOptions, launch_of
from phoenix.domain.permissions import Rule, RuleSet, ToolDecision
from phoenix.engine.permissions import rehearse, shown_arguments
from phoenix.errors import DomainInvalid, SettingInvalid
from phoenix.settings import Settings
from phoenix.tools.rule_files import default_rules, layers_of

RULES = """
rules:
  - effect: deny
    tool: bash
    command: git push *
    reason: Delivery pushes.
  - effect: ask
    path: private/**
"""


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """Return a rule file."""
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


def phoenix(*arguments: str, given: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments), input=given)
    return done.exit_code, done.stdout, done.stderr


def test_a_good_file_is_counted(rules: str) -> None:
    """In words and as JSON."""
    code, said, _ = phoenix("policy", "check", rules)
    assert (code, said) == (0, f"{rules}: 2 rules (0 allow, 1 ask, 1 deny)\n")
    assert json.loads(phoenix("policy", "check", rules, "--json")[1])["deny"] == 1


def test_a_bad_file_is_refused_by_line_and_field(tmp_path: Path) -> None:
    """As bad usage; so is one that is not there."""
    path = tmp_path / "bad.yaml"
    path.write_text("rules:\n- effect: deny\n  comand: x\n")
    code, _, said = phoenix("policy", "check", str(path))
    assert code == 2
    assert "line 3, rules[0].comand" in said
    code, _, said = phoenix("policy", "check", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "none.yaml" in said


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("bash", "cd a && git -C b push", "deny: project rule 1: deny bash command git push *"),
        ("bash", '{"command": "ls"}', "allow: service rule 1: allow bash"),
        ("bash", "$A push", "ask: project rule 2: ask * path private/**"),
        ("read_file", '{"path": "./private/../private/x"}', "ask: project rule 2: ask * path private/**"),
        ("deploy", "{}", "ask: no rule"),
    ],
)
def test_a_call_is_explained(rules: str, tool: str, arguments: str, said: str) -> None:
    """Which rule decides, beside those of the service."""
    code, out, _ = phoenix("policy", "explain", rules, tool, arguments)
    assert (code, out.splitlines()[0]) == (0, said)


def test_arguments_that_are_no_json_are_refused(rules: str) -> None:
    """Only a command of bash may be given bare."""
    assert phoenix("policy", "explain", rules, "read_file", "a.py")[0] == 2
    assert phoenix("policy", "explain", rules, "read_file", "[1]")[0] == 2
    assert phoenix("policy", "explain", rules, "bash", "[1]")[0] == 0


def test_a_rehearsal_without_decisions_says_so(
    rules: str, tmp_path: Path, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command reads the database that is configured."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    code, said, _ = phoenix("policy", "rehearse", rules)
    assert (code, said.splitlines()[0]) == (0, "0 decisions on record; with these rules")
    told = json.loads(phoenix("policy", "rehearse", rules, "--json")[1])
    assert (told["total"], told["missed"]) == (0, [])
    assert phoenix("policy", "rehearse", rules, "--project", "abc")[0] == 2
    code, _, said = phoenix("message", "abc", "Hello.")
    assert code == 2
    assert "no project abc" in said


def test_a_launch_takes_rules(rules: str, tmp_path: Path) -> None:
    """They are checked before anything begins."""
    assert launch_of(NewOptions(requirement="Do it.")).rules is None
    launch = launch_of(NewOptions(requirement="Do it.", rules=rules))
    assert launch.rules is not None
    assert [rule.effect for rule in launch.rules.rules] == ["deny", "ask"]
    (tmp_path / "bad.yaml").write_text("rules: 5")
    with pytest.raises(DomainInvalid):
        launch_of(NewOptions(requirement="Do it.", rules=str(tmp_path / "bad.yaml")))


def test_the_services_rules_come_from_its_settings(rules: str, tmp_path: Path) -> None:
    """A file that cannot be used stops the start, and names what is wrong."""
    assert service_rules(Settings(home=tmp_path)) == default_rules()
    assert len(service_rules(Settings(home=tmp_path, rules=Path(rules))).rules) == 2
    (tmp_path / "bad.yaml").write_text("rules:\n- effect: permit\n")
    for name, said in (("bad.yaml", "line 2, rules"), ("none.yaml", "No such file")):
        with pytest.raises(SettingInvalid, match=said):
            service_rules(Settings(home=tmp_path, rules=tmp_path / name))


def decision(outcome: str, command: str, cut: tuple[str, ...] = ()) -> ToolDecision:
    return ToolDecision(
        id=uuid4(),
        project_id=UUID(int=1),
        run_id=UUID(int=2),
        call=command,
        tool="bash",
        arguments={"command": command},
        arguments_digest="",
        cut=list(cut),
        effect="ask",
        rule="",
        outcome=outcome,  # type: ignore[arg-type]
        at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
    )


def test_a_rehearsal_counts_and_names() -> None:
    """What is automatic, what is asked, which rejections would run, which approvals would not."""
    layers = layers_of(default_rules(), project=RuleSet(rules=[Rule(effect="deny", command="rm *")]))
    past = [
        decision("rejected", "make"),
        decision("approved", "rm x"),
        decision("edited", "rm y"),
        decision("rejected", "rm z"),
        decision("rejected", "echo …", cut=("command",)),
        decision("allowed", "ls"),
        decision("asked", "$A"),
    ]
    told = rehearse(layers, past)
    assert (told.total, told.allowed, told.denied, told.asked) == (7, 2, 3, 2)
    assert [d.call for d in told.missed] == ["make"]
    assert [d.call for d in told.stopped_approved] == ["rm x", "rm y"]


def test_arguments_are_kept_without_secrets_and_cut() -> None:
    """Inside lists and objects too; a half of a secret is none that would be overlooked."""
    key = "sk-" + "a1B2" * 8
    shown, cut = shown_arguments(
        {"a": {"b": [f"password={key}", "x" * 9000]}, "n": 5, "t": f"{'y' * 7990} {key}"}
    )
    assert key[:12] not in json.dumps(shown)
    assert (shown["n"], cut) == (5, ["a"])
    assert shown["t"].endswith("[secret]")
