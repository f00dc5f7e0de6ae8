"""`phoenix run`: any flow, durably, its output as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phoenix.errors import InputError, NoModel

if TYPE_CHECKING:
    from phoenix.settings import Settings


@dataclass(frozen=True)
class RunOptions:
    """What the command line said."""

    target: str
    value: str | None = None
    model: str = ""
    approvals: str = "ask"
    budget_usd: str = ""
    detach: bool = False
    server: str = ""
    as_json: bool = False


async def run_flow(options: RunOptions) -> int:
    """Run a flow, follow it, print its output, and return the exit code."""
    from phoenix.cli.new import approvals_of, budget_of
    from phoenix.cli.session import end, open_settings, work_on
    from phoenix.engine.programs import input_type
    from phoenix.workflows.loading import load_flow

    settings = open_settings(model=options.model, server=options.server, only_here="run")
    approvals, budget = approvals_of(options.approvals), budget_of(options.budget_usd)
    loaded = load_flow(options.target)
    body = input_of(options.value, input_type(loaded.flow))
    from phoenix.cli.connection import open_connection
    from phoenix.cli.new import detached
    from phoenix.cli.screen import open_screen
    from phoenix.engine.launch import Launch

    launch = Launch(
        requirement=f"Run the flow {loaded.name}",
        title=f"flow {options.target}",
        model=await _model(settings, named=bool(options.model)),
        approvals=approvals,
        budget_usd=budget,
        flow=loaded.name,
        input=body,
    )
    flows = {loaded.name: loaded.flow}
    # Only the process that has read the file knows the flow: no request names it.
    if options.detach:
        async with open_connection(settings, execution=False, flows=flows) as connection:
            project = await connection.own.engine.launch(launch)
            return await detached(connection, project, as_json=options.as_json)
    screen = open_screen(as_json=options.as_json, output_only=True)
    async with open_connection(settings, flows=flows, types=loaded.types) as connection:
        project = await connection.own.engine.launch(launch)
        view, overview = await work_on(connection, project, screen)
    return end(view, overview, as_json=options.as_json)


def input_of(text: str | None, takes: Any) -> Any:
    """Return the flow's input: JSON, or the text itself when the flow takes text.

    Raises:
        InputError: there is none, or it does not fit.
    """
    from pydantic import TypeAdapter, ValidationError

    from phoenix.cli.new import read_text

    shown = getattr(takes, "__name__", str(takes))
    if text is None:
        if takes is Any:
            return {}
        raise InputError(f"This flow takes {shown}.", field="INPUT", hint="Give it as JSON after FILE:NAME.")
    text = read_text("-") if text == "-" else text
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        if takes is not str and takes is not Any:
            raise InputError(
                f"It is not JSON: {error}", field="INPUT", hint=f"The flow takes {shown}."
            ) from error
        body = text
    if takes is str and not isinstance(body, str):
        body = text
    try:
        TypeAdapter(takes).validate_python(body)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'INPUT'}: {e['msg']}" for e in error.errors()[:5]
        )
        raise InputError(
            f"It does not fit: {problems}.", field="INPUT", hint=f"The flow takes {shown}."
        ) from error
    return body


async def _model(settings: Settings, *, named: bool) -> str:
    """Return the model; empty when there is none, for not every flow asks one."""
    from phoenix.cli.session import usable_model

    try:
        return await usable_model(settings)
    except NoModel:
        if named:
            raise
        return ""
