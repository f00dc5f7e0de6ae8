"""`phoenix policy`: rule files checked, explained, and rehearsed on past decisions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from phoenix.cli.output import print_json
from phoenix.errors import InputError

if TYPE_CHECKING:
    from phoenix.domain.permissions import Rehearsal, RuleSet, ToolDecision

SHOWN = 20
"""Decisions that are listed."""


def read_rules(file: str) -> RuleSet:
    """Return the rules of a file, or of standard input for `-`.

    Raises:
        InputError: the file cannot be read.
        DomainInvalid: names line and field of what is wrong.
    """
    from phoenix.cli.new import read_text
    from phoenix.tools.rule_files import parse_rules

    try:
        text = read_text(file)
    except InputError as error:
        raise InputError(
            error.message, field=file, hint="Name a YAML file of rules, or - for stdin."
        ) from error
    return parse_rules(text)


async def check(file: str, *, as_json: bool = False) -> int:
    """Check a rule file."""
    rules = read_rules(file)
    counts = {e: sum(rule.effect == e for rule in rules.rules) for e in ("allow", "ask", "deny")}
    if as_json:
        print_json({"rules": len(rules.rules), **counts, "digest": rules.digest()})
    else:
        _echo(f"{file}: {len(rules.rules)} rules ({', '.join(f'{n} {e}' for e, n in counts.items())})")
    return 0


async def explain(file: str, tool: str, arguments: str, *, as_json: bool = False) -> int:
    """Tell what rules, beside those of the service, say of a call."""
    from phoenix.bootstrap import service_rules
    from phoenix.cli.session import open_settings
    from phoenix.domain.permissions import ToolCall
    from phoenix.tools.permissions import judge
    from phoenix.tools.rule_files import layers_of

    rules = read_rules(file)
    layers = layers_of(service_rules(open_settings()), project=rules)
    ruling = judge(ToolCall(tool=tool, arguments=arguments_of(tool, arguments)), layers)
    if as_json:
        print_json(ruling.model_dump())
    else:
        _echo(f"{ruling.effect}: {ruling.rule}")
        if ruling.reason:
            _echo(f"  {ruling.reason}")
    return 0


def arguments_of(tool: str, text: str) -> dict[str, Any]:
    """Return a call's arguments as they were given.

    Raises:
        InputError: they are no JSON object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        if tool == "bash":
            return {"command": text}
        hint = """Such as '{"path": "src/a.py"}'."""
        raise InputError("The arguments are no JSON.", field="ARGS", hint=hint) from error
    if isinstance(found, dict):
        return found
    if tool == "bash":
        return {"command": text}
    raise InputError("The arguments are no JSON object.", field="ARGS")


async def rehearse(file: str, *, project: str = "", as_json: bool = False) -> int:
    """Replay rules over past decisions."""
    from phoenix.bootstrap import open_system
    from phoenix.cli.session import open_settings

    rules = read_rules(file)
    async with open_system(open_settings(), execution=False) as system:
        found = await system.engine.find(project) if project else None
        told = await system.engine.rules.rehearse(rules, found.id if found else None)
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        _print(told)
    return 0


def _print(told: Rehearsal) -> None:
    _echo(f"{told.total} decisions on record; with these rules")
    _echo(f"  {told.allowed + told.denied} automatic: {told.allowed} allowed, {told.denied} denied")
    _echo(f"  {told.asked} asked of a person")
    _list(f"{len(told.missed)} that a person rejected would have run", told.missed)
    _list(
        f"{len(told.stopped_approved)} that a person approved would have been denied", told.stopped_approved
    )


def _list(title: str, decisions: list[ToolDecision]) -> None:
    from phoenix.cli.escape import one_line

    _echo(title + (":" if decisions else ""))
    for decision in decisions[:SHOWN]:
        text = one_line(json.dumps(decision.arguments, ensure_ascii=False), 100)
        _echo(
            f"  {str(decision.project_id)[:8]} {decision.task or '-'} {decision.tool} {text} ({decision.by})"
        )
    if len(decisions) > SHOWN:
        _echo(f"  … and {len(decisions) - SHOWN} more; --json lists them all")


def _echo(text: str) -> None:
    import typer

    from phoenix.cli.escape import clean

    typer.echo(clean(text))
