"""The contract: one commit with the shared interfaces as stubs."""

from __future__ import annotations

from phoenix.agents.changes import apply_changes
from phoenix.agents.checking import new_failures
from phoenix.agents.drafting import draft
from phoenix.agents.grounding import ground
from phoenix.agents.prompting import render
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import suite_text
from phoenix.domain.frozen import Frozen
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Spec
from phoenix.domain.work import FileChange
from phoenix.errors import DomainInvalid
from phoenix.ports import Caller, Ports

COMPILE = (
    "python - <<'EOF'\n"
    "import ast, pathlib, sys\n"
    "bad = 0\n"
    "for p in sorted(pathlib.Path('.').rglob('*.py')):\n"
    "    try:\n"
    "        ast.parse(p.read_bytes(), str(p))\n"
    "    except SyntaxError as e:\n"
    "        bad = 1\n"
    "        print(f'{p}:{e.lineno}: {e.msg}')\n"
    "sys.exit(bad)\n"
    "EOF"
)


class ContractDraft(Frozen):
    """The files of the contract commit."""

    changes: list[FileChange]


async def contract(plan: Plan, ports: Ports) -> Contract:
    """Commit the plan's interfaces as stubs, so that everybody builds on the same names."""
    digest = await ports.artifacts.put(plan)
    spec = await ports.artifacts.get(plan.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    base = await ports.workspace.prepare(request.repository)
    if not plan.interfaces:
        return Contract(plan=digest, base=base, commit=base)
    about = await ground(ports, base)
    existing = []
    for path in sorted({i.file for i in plan.interfaces}):
        data = await ports.workspace.read(base, path)
        if data is not None:
            existing.append((path, data.decode("utf-8", "replace")[:40_000]))
    messages = render(
        "contract",
        spec=as_yaml(spec),
        plan=as_yaml(plan),
        existing=existing,
        layout=about.layout,
    )
    tree = await ports.workspace.worktree("contract", base)
    sandbox = ports.sandboxes.open(tree.path)

    async def check(answer: ContractDraft) -> None:
        await tree.restore(base)
        paths = await apply_changes(sandbox, answer.changes)
        missing = sorted({i.file for i in plan.interfaces} - {*paths, *about.files})
        if missing:
            raise DomainInvalid([("changes", f"no file for the interfaces in {', '.join(missing)}")])
        result = await sandbox.execute(COMPILE, timeout_seconds=60)
        if not result.ok:
            raise DomainInvalid([("changes", f"does not parse: {result.stdout.strip()[:2000]}")])
        suite = await ports.harness.run(tree.path)
        if about.files and await new_failures(ports, suite, base, name="contract"):
            raise DomainInvalid([("changes", f"existing tests break:\n{suite_text(suite)}")])

    answer = await draft(ports, Caller("contract"), messages, ContractDraft, check)
    commit = await ports.workspace.commit(
        "contract", message=f"Add the interfaces of: {spec.title}", parents=[base]
    )
    return Contract(plan=digest, base=base, commit=commit, files=sorted(c.path for c in answer.changes))
