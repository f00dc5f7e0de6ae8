"""What a person decides on when the permission rules ask about a tool call."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from phoenix.agents.desk import BashArgs, EditArgs, NoArgs, ReadArgs, SearchArgs, SubmitArgs
from phoenix.domain.approval import HumanRequest
from phoenix.domain.frozen import Frozen
from phoenix.domain.permissions import TOOL_GATE, Ruling, ToolCall
from phoenix.flow.forms import as_form, schema_of

Shown = Annotated[str, Field(json_schema_extra={"readOnly": True})]


class AskedCall(Frozen):
    """A tool call that waits for a decision. Only its arguments can be edited."""

    tool: Shown
    agent: Shown
    task: Shown
    rule: Shown
    """Which rule asks."""
    reason: Shown
    call: Shown
    """Names the call in its run."""
    arguments: Any


class BashCall(AskedCall):
    """A command of the shell."""

    arguments: BashArgs


class ReadCall(AskedCall):
    """A file that is read."""

    arguments: ReadArgs


class EditCall(AskedCall):
    """A file that is changed."""

    arguments: EditArgs


class SearchCall(AskedCall):
    """A search in files."""

    arguments: SearchArgs


class ChecksCall(AskedCall):
    """A run of the checks."""

    arguments: NoArgs


class SubmitCall(AskedCall):
    """A submission."""

    arguments: SubmitArgs


class OtherCall(AskedCall):
    """Any other tool."""

    arguments: dict[str, Any]


FORMS: dict[str, type[AskedCall]] = {
    "bash": BashCall,
    "read_file": ReadCall,
    "edit_file": EditCall,
    "search": SearchCall,
    "run_checks": ChecksCall,
    "submit": SubmitCall,
}


def form_for(tool: str) -> type[AskedCall]:
    """Return the form of a tool's calls."""
    return FORMS.get(tool, OtherCall)


def request_for(call: ToolCall, ruling: Ruling, key: str) -> HumanRequest:
    """Return what a person is asked about a call."""
    form = form_for(call.tool)
    asked = form(
        tool=call.tool,
        agent=call.agent,
        task=call.task,
        rule=ruling.rule,
        reason=ruling.reason,
        call=key,
        arguments=call.arguments,
    )
    return HumanRequest(
        kind="approve",
        name=TOOL_GATE,
        value_digest=asked.digest(),
        value=as_form(asked),
        answer_schema=schema_of(form),
        verdicts=["approve", "edit", "reject"],
    )
