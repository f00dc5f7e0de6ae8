"""`phoenix approve`: decide without a dialogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from phoenix.errors import InputError, NotFound, SettingInvalid

if TYPE_CHECKING:
    from phoenix.domain.approval import Decision, HumanRequest


async def approve(
    prefix: str,
    *,
    verdict: str = "",
    reason: str = "",
    file: str = "",
    server: str = "",
    as_json: bool = False,
) -> int:
    """Decide the oldest open approval of a project."""
    from phoenix.cli.new import read_text

    check_options(verdict, reason, file)
    text = read_text(file) if file else None
    from phoenix.cli.connection import open_connection
    from phoenix.cli.gates import checked
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        overview = await connection.client.find(prefix)
        project = overview.project
        short = str(project.id)[:8]
        if not overview.approvals:
            raise NotFound(
                f"Project {short} waits for nobody.", hint=f"See how it stands: phoenix show {short}"
            )
        if ":" in overview.run.flow and connection.system is not None:
            from phoenix.workflows.loading import load_flow

            # A user's own flow: its models have to be there for the decision to be checked against.
            load_flow(overview.run.flow)
        approval = overview.approvals[0]
        request = approval.request
        decision = decision_of(request, verdict, reason, text)
        checked(request, decision, overview.artifacts)
        await connection.client.decide(approval.id, decision, digest=request.value_digest)
    _say(str(project.id), request, decision, as_json=as_json)
    return 0


def check_options(verdict: str, reason: str, file: str) -> None:
    """Check that options go together.

    Raises:
        SettingInvalid: there is no such verdict.
        InputError: what the verdict needs is missing.
    """
    from phoenix.domain.approval import Verdict

    known = get_args(Verdict)
    if verdict and verdict not in known:
        raise SettingInvalid(
            f"there is no verdict {verdict!r}.", field="--verdict", hint=f"Give {', '.join(known)}."
        )
    if verdict == "reject" and not reason.strip():
        raise InputError(
            "A rejection needs a reason.", field="--reason", hint="The agent reads it and revises."
        )
    if verdict == "edit" and not file:
        raise InputError(
            "An edit needs the edited value.", field="--file", hint="Give a YAML file, or - for stdin."
        )


def decision_of(request: HumanRequest, verdict: str, reason: str, text: str | None) -> Decision:
    """Return the decision that the options stand for; questions without answers take their defaults.

    Raises:
        InputError: an answer is needed.
        DomainInvalid: the file does not fit.
    """
    from phoenix.cli.forms import answered, decision_from, questions_of
    from phoenix.domain.approval import Decision

    questions = questions_of(request)
    if verdict == "reject":
        return Decision(verdict="reject", reason=reason)
    if text is not None:
        decision = decision_from(request, text)
        return (
            decision.model_copy(update={"verdict": verdict}) if verdict in ("edit", "respond") else decision
        )
    if questions is not None:
        return answered(request, questions, {})
    if verdict in ("", "approve") and "approve" in request.verdicts:
        return Decision(verdict="approve")
    raise InputError(
        f"{request.name} needs an answer.", field="--file", hint="Give a YAML file, or - for stdin."
    )


def _say(project_id: str, request: HumanRequest, decision: Decision, *, as_json: bool) -> None:
    import typer

    from phoenix.cli.escape import clean
    from phoenix.cli.lines import past
    from phoenix.cli.output import print_json

    if as_json:
        print_json({"project_id": project_id, "name": request.name, "verdict": decision.verdict})
        return
    typer.echo(
        clean(f"{request.name}: {past(decision.verdict)}. Go on with: phoenix resume {project_id[:8]}")
    )
