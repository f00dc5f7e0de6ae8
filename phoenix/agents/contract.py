"""The contract: one commit with the shared interfaces as stubs."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from phoenix.agents.changes import apply_changes
from phoenix.agents.checking import new_failures
from phoenix.agents.desk import IMPORTS
from phoenix.agents.drafting import draft
from phoenix.agents.grounding import ground
from phoenix.agents.prompting import render
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import cap, suite_text
from phoenix.domain.frozen import Frozen
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Spec
from phoenix.domain.work import FileChange
from phoenix.errors import DomainInvalid
from phoenix.ports import Caller, Ports

PARSE = """
import ast, sys
bad = 0
for path in sys.argv[1:]:
    if path.endswith(".py"):
        try:
            ast.parse(open(path, "rb").read(), path)
        except SyntaxError as error:
            bad = 1
            print(f"{path}:{error.lineno}: {error.msg}")
sys.exit(bad)
"""
IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
"""Of each module; what an import runs, runs in the sandbox."""


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
        environment = await ports.provisioner.provision(tree.path)
        importing = ports.sandboxes.open(tree.path, environment=environment, read_only=True)
        for what, script, names in (("parse", PARSE, paths), ("import", IMPORT, _modules(paths))):
            command = f"python -c {shlex.quote(script)} {shlex.join(names)}"
            result = await importing.execute(command, timeout_seconds=60, variables=IMPORTS)
            if not result.ok:
                said = f"{result.stdout}\n{result.stderr}".replace(importing.root, ".").strip()
                raise DomainInvalid([("changes", f"does not {what}: {cap(said, 3000)}")])
        if about.files:
            suite = await ports.harness.run(tree.path)
            if await new_failures(ports, suite, base, name="contract"):
                raise DomainInvalid([("changes", f"existing tests break:\n{suite_text(suite)}")])

    answer = await draft(ports, Caller("contract"), messages, ContractDraft, check)
    commit = await ports.workspace.commit(
        "contract", message=f"Add the interfaces of: {spec.title}", parents=[base]
    )
    return Contract(plan=digest, base=base, commit=commit, files=sorted(c.path for c in answer.changes))


def _modules(paths: list[str]) -> list[str]:
    """Return the modules of these files as they are imported; those that run something are left out."""
    modules = []
    for path in paths:
        parts = PurePosixPath(path).with_suffix("").parts
        parts = parts[1:] if parts[0] == "src" else parts
        plain = all(part.isidentifier() for part in parts)
        if path.endswith(".py") and plain and parts[-1] not in ("__main__", "setup", "conftest"):
            modules.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [m for m in modules if m]
