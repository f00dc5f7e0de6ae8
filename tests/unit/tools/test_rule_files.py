"""Rule files: what is wrong is named by line and field."""

from __future__ import annotations

import pytest

from phoenix.domain.permissions import Rule, RuleSet
from phoenix.domain.yaml_lines import MAX_FILE_CHARS
from phoenix.errors import DomainInvalid
from phoenix.tools.rule_files import default_rules, parse_rules

GOOD = """
otherwise: deny
rules:
  - effect: deny
    tool: bash
    command: git push *
    reason: Delivery pushes.
  - effect: allow
    host: 10.0.0.1
"""


def test_a_file_is_read_as_it_is_written() -> None:
    """Order is kept, and nothing becomes a number or a truth value."""
    assert parse_rules(GOOD) == RuleSet(
        otherwise="deny",
        rules=[
            Rule(effect="deny", tool="bash", command="git push *", reason="Delivery pushes."),
            Rule(effect="allow", host="10.0.0.1"),
        ],
    )
    assert parse_rules("rules:\n- {effect: deny, tool: no}").rules[0].tool == "no"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("rules:\n- effect: permit", "line 2, rules[0].effect", "'allow', 'ask' or 'deny'"),
        ("rules:\n- tool: bash", "line 2, rules[0].effect", "required"),
        ("rules:\n- effect: deny\n  comand: x", "line 3, rules[0].comand", "not permitted"),
        ("rules:\n- effect: deny\n  command: 'a; b'", "line 3, rules[0].command", "plain words"),
        ("rules:\n- effect: deny\n  path: ../x", "line 3, rules[0].path", "does not go up"),
        ("rules:\n- effect: deny\n  path: '[a'", "line 3, rules[0].path", "needs its ]"),
        ("rules:\n- effect: deny\n  host: https://x", "line 3, rules[0].host", "name or an address"),
        ("rules:\n- effect: deny\n  tool: ''", "line 3, rules[0].tool", "name a tool"),
        ("rules:\n- effect: deny\n  effect: allow", "line 3, rules[0].effect", "twice"),
        ("rules:\n- effect: deny\nunclear: allow", "line 3, unclear", "'ask' or 'deny'"),
        ("rules: x", "line 1, rules", "list"),
        ("rules:\n- a: &x 1\n- *x", "line 3", "aliases"),
        ("rules:\n- effect: [", "line 2", "expected"),
        ("- effect: deny", "file", "`rules:`"),
        ("", "file", "`rules:`"),
        ("x" * (MAX_FILE_CHARS + 1), "file", "characters"),
        ("rules:\n" + "- effect: deny\n" * 201, "line 2, rules", "at most 200"),
    ],
)
def test_what_is_wrong_is_named(text: str, where: str, what: str) -> None:
    """The line, the field, and what it must be."""
    with pytest.raises(DomainInvalid) as caught:
        parse_rules(text)
    (place, said), *_ = caught.value.problems
    assert place.startswith(where)
    assert what in said


def test_the_rules_that_come_with_phoenix_are_good() -> None:
    """They can be read, and forbid nothing by themselves."""
    assert {rule.effect for rule in default_rules().rules} == {"allow"}
