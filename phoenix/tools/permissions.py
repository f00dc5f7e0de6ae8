"""Evaluate permission rules on a tool call. Pure: the same call, rules and ground give the same ruling.

A call is taken apart into acts, each is judged, and the strictest ruling is the call's. Where a rule cannot
be applied the call is denied; where it cannot be seen whether a `deny` matches, nothing is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from phoenix.domain.permissions import Effect, Ground, Rule, RuleLayer, Ruling, ToolCall
from phoenix.tools.acts import OPAQUE, Act, Word
from phoenix.tools.matching import (
    Match,
    command_pattern,
    hosts_in,
    match_host,
    match_path,
    match_sequence,
    normal_path,
)
from phoenix.tools.programs import plain_forms, without_options
from phoenix.tools.shell import acts_of_shell

STRICTNESS: dict[Effect, int] = {"allow": 0, "ask": 1, "deny": 2}
COMMAND = "command"
PATHS = ("path", "file", "folder", "directory", "dir")
NO_RULE = "no rule"
STORED_OUTPUT = "output:"


def acts_of(call: ToolCall) -> list[Act]:
    """Return what a tool call would do."""
    if COMMAND in call.arguments:
        command = call.arguments[COMMAND]
        return acts_of_shell(command) if isinstance(command, str) else [OPAQUE]
    paths: list[Word] = []
    hosts: list[Word] = []
    for name, value in call.arguments.items():
        texts = list(_texts(value))
        hosts += [Word(host) for text in texts for host in hosts_in(text)]
        if any(part in name.lower() for part in PATHS):
            paths += [Word(text) for text in texts if not text.startswith(STORED_OUTPUT)]
    return [Act(paths=tuple(paths), hosts=tuple(hosts))]


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list | tuple):
        return [text for inner in value for text in _texts(inner)]
    return []


def paths_of(call: ToolCall, roots: Sequence[str] = ()) -> list[str]:
    """Return the paths that a call names, normalised, so that somebody may look where they lead."""
    named = {word.text for act in acts_of(call) for word in act.paths if word.text}
    return sorted({normal_path(path, roots) for path in named if "\0" not in path})


def judge(call: ToolCall, layers: Sequence[RuleLayer], ground: Ground | None = None) -> Ruling:
    """Return what rules say of a call.

    Args:
        call: The call.
        layers: Rule sets; a deny of any wins, then an ask, then an allow. Where all are silent, a person
            is asked.
        ground: What its paths lead to.
    """
    ground = ground or Ground()
    try:
        acts = acts_of(call)
    except Exception as error:  # noqa: BLE001 - what cannot be read is not run
        return Ruling(effect="deny", rule=NO_RULE, reason=f"The call cannot be read: {error}")
    rulings = [_judge_act(call, act, layers, ground) for act in acts]
    return max(rulings, key=lambda ruling: STRICTNESS[ruling.effect])


def _judge_act(call: ToolCall, act: Act, layers: Sequence[RuleLayer], ground: Ground) -> Ruling:
    spoken = [ruling for layer in layers if (ruling := _of_layer(call, act, layer, ground))]
    if not spoken:
        return Ruling(effect="ask", rule=NO_RULE, reason=f"No rule speaks of {_shown(call, act)}.")
    return max(spoken, key=lambda ruling: STRICTNESS[ruling.effect])


def _of_layer(call: ToolCall, act: Act, layer: RuleLayer, ground: Ground) -> Ruling | None:
    """Return what one rule set says; None when it says nothing."""
    first: Ruling | None = None
    unclear: Ruling | None = None
    for number, rule in enumerate(layer.rules.rules, 1):
        name = f"{layer.name} rule {number}: {rule}"
        try:
            found = matches(rule, call.tool, act, ground)
        except Exception as error:  # noqa: BLE001 - an error in a rule denies, whatever it is
            text = f"The rule cannot be applied ({type(error).__name__}: {error})."
            return Ruling(effect="deny", rule=name, reason=text)
        if rule.effect == "deny" and found is Match.YES:
            return Ruling(effect="deny", rule=name, reason=rule.reason)
        if rule.effect == "deny" and found is Match.MAYBE and unclear is None:
            reason = f"It cannot be seen whether this rule matches {_shown(call, act)}. {rule.reason}".strip()
            unclear = Ruling(effect=layer.rules.unclear, rule=name, reason=reason)
        if first is None and (found is Match.YES or (rule.effect == "ask" and found is Match.MAYBE)):
            first = Ruling(effect=rule.effect, rule=name, reason=rule.reason)
    if first is None and layer.rules.otherwise is not None:
        text = f"No {layer.name} rule matches {_shown(call, act)}."
        first = Ruling(effect=layer.rules.otherwise, rule=f"{layer.name} rules: otherwise", reason=text)
    if unclear and (first is None or STRICTNESS[unclear.effect] > STRICTNESS[first.effect]):
        return unclear
    return first


def _shown(call: ToolCall, act: Act) -> str:
    if not act.words:
        return call.tool
    words = ["…" if w.text is None else w.text for w in act.words[:6]]
    return f"`{' '.join(words)[:120]}`"


def matches(rule: Rule, tool: str, act: Act, ground: Ground) -> Match:
    """Match one act with one rule: all the patterns that it gives must fit.

    What is allowed must fit for certain and in every part; to deny or ask, one part is enough.
    """
    strict = rule.effect == "allow"
    found = match_sequence([rule.tool], [Word(tool)])
    if rule.command:
        found = min(found, _match_command(rule.command, act, strict=strict))
    if rule.path:
        found = min(found, _match_paths(rule.path, act, ground, strict=strict))
    if rule.host:
        found = min(found, _match_hosts(rule.host, act, strict=strict))
    if strict and (rule.command or rule.path or rule.host) and not act.sure:
        return Match.NO
    return found


def _match_command(pattern: str, act: Act, *, strict: bool) -> Match:
    if act.words is None:
        return Match.NO
    parts = command_pattern(pattern)
    if strict:
        return match_sequence(parts, act.words)
    found = max(match_sequence(parts, form) for form in plain_forms(act.words))
    if found is Match.NO and (act.hides or match_sequence(parts, without_options(act.words))):
        return Match.MAYBE
    return found


def _match_paths(pattern: str, act: Act, ground: Ground, *, strict: bool) -> Match:
    found = [match_path(pattern, word, ground, strict=strict) for word in act.paths]
    if strict:
        return min(found, default=Match.NO)
    return max([*found, Match.MAYBE if act.hides else Match.NO])


def _match_hosts(pattern: str, act: Act, *, strict: bool) -> Match:
    found = [match_host(pattern, word) for word in act.hosts]
    if strict:
        return min(found, default=Match.NO)
    return max([*found, Match.MAYBE if act.hides else Match.NO])
