"""The test author: seals acceptance tests before any code is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from phoenix.agents.changes import clean_path
from phoenix.agents.drafting import draft
from phoenix.agents.prompting import render
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import cap
from phoenix.domain.evidence import Sealed, SealedFile, SealedTest, SuiteResult
from phoenix.domain.frozen import Frozen, Text
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.spec import Spec
from phoenix.errors import DomainInvalid, PathRefused
from phoenix.ports import Caller, Harness, Ports

FOLDERS = ("tests/acceptance", "tests/phoenix_acceptance", "phoenix_acceptance")
MAX_SHOWN_BYTES = 120_000


class DraftFile(Frozen):
    """One test file."""

    path: Text
    content: str


class DraftTest(Frozen):
    """A test and the criterion it decides."""

    id: Text
    criterion: str


class SealDraft(Frozen):
    """Acceptance tests as their author writes them."""

    files: list[DraftFile]
    tests: list[DraftTest]
    already_holding: list[str] = []
    """Ids of criteria that hold on the stubs already, so that their tests pass now."""


def sealed_folder(files: Sequence[str]) -> str:
    """Return a folder for acceptance tests that the repository does not use."""
    for folder in FOLDERS:
        if not any(f.startswith(f"{folder}/") for f in files):
            return folder
    return FOLDERS[-1] + "_sealed"


async def seal(contract: Contract, ports: Ports) -> Sealed:
    """Write acceptance tests from spec and contract, see them red, and hash them."""
    digest = await ports.artifacts.put(contract)
    plan = await ports.artifacts.get(contract.plan, Plan)
    spec = await ports.artifacts.get(plan.spec, Spec)
    contents = await ports.workspace.contents(contract.commit)
    folder = sealed_folder(sorted(contents))
    wanted = {i.file for i in plan.interfaces} | set(contract.files)
    shown, used = [], 0
    for path in sorted(contents, key=lambda p: (p not in wanted, p)):
        used += len(contents[path])
        if path in wanted or used < MAX_SHOWN_BYTES // 4:
            shown.append((path, cap(contents[path].decode("utf-8", "replace"), 20_000)))
    messages = render("seal", spec=as_yaml(spec), files=shown, folder=folder)
    tree = await ports.workspace.worktree("seal", contract.commit)
    sandbox = ports.sandboxes.open(tree.path)
    seen: dict[str, SuiteResult] = {}

    async def check(answer: SealDraft) -> None:
        files = _files(answer, folder)
        await tree.restore(contract.commit)
        await sandbox.upload({p: c.encode("utf-8", "replace") for p, c in files.items()})
        suite = await ports.harness.run(tree.path, paths=sorted(files), sealed=True)
        seen["suite"] = suite
        problems = [*_links(answer, spec, suite), *_colours(answer, spec, suite, ports.harness)]
        if problems:
            raise DomainInvalid(problems)

    answer = await draft(ports, Caller("seal"), messages, SealDraft, check)
    red = {t.id for t in seen["suite"].tests if ports.harness.red(t)}
    return Sealed(
        contract=digest,
        base=contract.commit,
        folder=folder,
        files=[
            SealedFile(path=p, content=c, sha256=hashlib.sha256(c.encode("utf-8", "replace")).hexdigest())
            for p, c in sorted(_files(answer, folder).items())
        ],
        tests=[SealedTest(id=t.id, criterion=t.criterion, red=t.id in red) for t in answer.tests],
    )


def _files(answer: SealDraft, folder: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for file in answer.files:
        try:
            path = clean_path(file.path)
        except PathRefused as error:
            raise DomainInvalid([("files", str(error))]) from error
        name = path.removeprefix(f"{folder}/")
        if name == path or "/" in name or not name.startswith("test_acceptance_") or name[-3:] != ".py":
            raise DomainInvalid([("files", f"{path} must be named {folder}/test_acceptance_<topic>.py")])
        files[path] = file.content
    if not files:
        raise DomainInvalid([("files", "there are no test files")])
    return files


def _links(answer: SealDraft, spec: Spec, suite: SuiteResult) -> list[tuple[str, str]]:
    """Check that listed tests, existing tests and criteria are the same things."""
    problems: list[tuple[str, str]] = []
    known = {c.id for c in spec.criteria()}
    listed = [t.id for t in answer.tests]
    ran = {t.id for t in suite.tests}
    broken = [t for t in suite.tests if t.outcome == "error"]
    problems += [("tests", f"{t.id} cannot be collected or set up: {cap(t.message, 1500)}") for t in broken]
    if broken and all("::" not in t.id for t in broken):
        return problems
    for test in answer.tests:
        if test.criterion not in known:
            problems.append(("tests", f"{test.id}: the spec has no criterion {test.criterion}"))
        if test.id not in ran and not any(r.startswith(f"{test.id}[") for r in ran):
            there = ", ".join(sorted(ran))[:1500]
            problems.append(("tests", f"{test.id} did not run; these did: {there}"))
    unlisted = sorted(
        r for r in ran if "::" in r and not any(r == i or r.startswith(f"{i}[") for i in listed)
    )
    problems += [("tests", f"{r} ran but is not listed with a criterion") for r in unlisted]
    problems += [
        ("tests", f"{i} is listed twice") for i in sorted({i for i in listed if listed.count(i) > 1})
    ]
    covered = {t.criterion for t in answer.tests}
    problems += [
        ("tests", f"no test decides criterion {c.id}") for c in spec.criteria() if c.id not in covered
    ]
    return problems


def _colours(answer: SealDraft, spec: Spec, suite: SuiteResult, harness: Harness) -> list[tuple[str, str]]:
    """Check that each criterion's tests are red for the right reason, or green where it holds already."""
    problems: list[tuple[str, str]] = []
    holding = {c.id for c in spec.criteria() if c.already_holds} | set(answer.already_holding)
    for criterion in spec.criteria():
        ids = [t.id for t in answer.tests if t.criterion == criterion.id]
        results = [t for t in suite.tests if any(t.id == i or t.id.startswith(f"{i}[") for i in ids)]
        failed = [t for t in results if t.outcome == "failed"]
        if criterion.id in holding:
            problems += [
                ("tests", f"{t.id} must pass now, as {criterion.id} already holds: {cap(t.message, 800)}")
                for t in failed
            ]
            continue
        problems += [
            ("tests", f"{t.id} fails for a wrong reason (not the missing behaviour): {cap(t.message, 800)}")
            for t in failed
            if not harness.red(t)
        ]
        if results and not failed:
            problems.append(
                (
                    "tests",
                    f"all tests of {criterion.id} pass on the stubs, so they decide nothing; make one that "
                    "fails without the feature, or list it in already_holding if it truly holds",
                )
            )
    return problems
