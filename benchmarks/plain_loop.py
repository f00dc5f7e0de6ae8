"""The plain agent loop that the short path is measured against: one coding agent, one bare prompt.

The agent, its tools and its sandbox are the short path's own. It is told the requirement and the files of the
repository, and nothing else: no triage, no spec, no map of symbols; and what it hands in is not verified.
"""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from phoenix.agents.coding import code
from phoenix.agents.desk import Desk
from phoenix.agents.grounding import ground
from phoenix.domain.frozen import Commit, Frozen
from phoenix.domain.project import Request
from phoenix.flow import step
from phoenix.ports import Caller, Ports

SYSTEM = """You are a software engineer. You work on a repository by calling tools, and end with `submit`.

Commands run in a sandbox at the repository's root: no network, nothing can be installed. Python is `python`;
pytest is installed. One call that may change something (bash, edit_file, run_checks, submit) a turn; several
read_file and search calls may go together. Mend the cause, add tests, and leave no scratch files behind."""


class LoopResult(Frozen):
    """What the loop handed in."""

    commit: Commit
    submitted: bool
    summary: str = ""


@step
async def loop(request: Request, runtime: Runtime[Ports]) -> LoopResult:
    """Let one agent do what a request asks for."""
    ports = runtime.context
    base = await ports.workspace.prepare(request.repository)
    tree = await ports.workspace.worktree("loop", base)
    environment = await ports.provisioner.provision(tree.path)
    about = await ground(ports, base)
    desk = Desk(
        ports=ports,
        tree=tree,
        sandbox=ports.sandboxes.open(tree.path, environment=environment),
        sealed_folder="\0",
        base=base,
        environment=str(environment.root),
    )
    messages = [
        SystemMessage(SYSTEM),
        HumanMessage(f"{request.text}\n\nThe repository:\n{about.layout}"),
    ]
    done = await code(desk, Caller("code", "loop"), messages, start=base)
    return LoopResult(commit=done.commit, submitted=done.submitted, summary=done.summary)
