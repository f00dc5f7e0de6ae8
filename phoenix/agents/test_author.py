"""The test author: seals acceptance tests before any code is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from phoenix.agents.changes import clean_path
from phoenix.agents.drafting import draft
from phoenix.agents.kept_tests import NOTHING, Former, Kept, keep
from phoenix.agents.prompting import render
from phoenix.agents.requirement import as_yaml
from phoenix.agents.results import cap
from phoenix.domain.evidence import Sealed, SealedFile, SealedTest, SuiteResult
from phoenix.domain.frozen import Frozen, Text
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.spec import Spec
from phoenix.errors import DomainInvalid, PathRefused
from phoenix.ports import Caller, Harness, Ports, Worktree

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


async def seal(contract: Contract, ports: Ports, former: Former | None = None) -> Sealed:
    """Write acceptance tests from spec and contract, see them red, and hash them.

    Args:
        contract: The contract.
        ports: What the run may use.
        former: Tests sealed before; those of criteria that say what they said then are kept.
    """
    plan = await ports.artifacts.get(contract.plan, Plan)
    spec = await ports.artifacts.get(plan.spec, Spec)
    contents = await ports.workspace.contents(contract.commit)
    folder = sealed_folder(sorted(contents))
    tree = await ports.workspace.worktree("seal", contract.commit)
    bench = Bench(contract.commit, spec, folder, tree, ports)
    kept = keep(former, spec, folder)
    if kept.tests and former is not None and former.sealed.base != contract.commit:
        # They were seen on another contract: one that does not hold here cannot be mended by its neighbour.
        kept = kept if not await bench.problems(SealDraft(files=[], tests=[]), kept, partly=True) else NOTHING
    answer = SealDraft(files=[], tests=[])
    wanted = [c.id for c in spec.criteria() if c.id not in kept.criteria]
    if wanted:
        wanted_files = {i.file for i in plan.interfaces} | set(contract.files)
        shown = _shown(contents, wanted_files)
        messages = render(
            "seal",
            spec=as_yaml(spec),
            files=shown,
            folder=folder,
            kept=sorted(kept.files.items()),
            only=wanted,
        )

        async def check(draft_: SealDraft) -> None:
            problems = await bench.problems(draft_, kept)
            if problems:
                raise DomainInvalid(problems)

        answer = await draft(ports, Caller("seal"), messages, SealDraft, check)
    if kept.tests:
        await ports.events.emit("tests_kept", criteria=sorted(kept.criteria), written=wanted)
    return Sealed(
        contract=await ports.artifacts.put(contract),
        base=contract.commit,
        folder=folder,
        files=[
            SealedFile(path=p, content=c, sha256=hashlib.sha256(c.encode("utf-8", "replace")).hexdigest())
            for p, c in sorted({**kept.files, **(_files(answer, folder) if wanted else {})}.items())
        ],
        tests=[
            *kept.tests,
            *(SealedTest(id=t.id, criterion=t.criterion, red=t.id in bench.red) for t in answer.tests),
        ],
    )


def _shown(contents: dict[str, bytes], wanted: set[str]) -> list[tuple[str, str]]:
    """Return the files that the author reads: those of the contract first, others as far as they fit."""
    shown, used = [], 0
    for path in sorted(contents, key=lambda p: (p not in wanted, p)):
        used += len(contents[path])
        if path in wanted or used < MAX_SHOWN_BYTES // 4:
            shown.append((path, cap(contents[path].decode("utf-8", "replace"), 20_000)))
    return shown


@dataclass
class Bench:
    """Where drafts of tests are run against the contract. `red` are those that the last run saw red."""

    commit: str
    spec: Spec
    folder: str
    tree: Worktree
    ports: Ports
    red: set[str] = field(default_factory=set)

    async def problems(self, answer: SealDraft, kept: Kept, *, partly: bool = False) -> list[tuple[str, str]]:
        """Run a draft together with what is kept, and return what is wrong.

        `partly` looks at the kept tests alone: criteria without tests are no problem then.
        """
        own = {} if partly else _files(answer, self.folder)
        taken = sorted(own.keys() & kept.files.keys())
        if taken:
            return [("files", f"{path} holds sealed tests; give yours another name") for path in taken]
        await self.tree.restore(self.commit)
        files = {**kept.files, **own}
        sandbox = self.ports.sandboxes.open(self.tree.path)
        await sandbox.upload({p: c.encode("utf-8", "replace") for p, c in files.items()})
        suite = await self.ports.harness.run(self.tree.path, paths=sorted(files), sealed=True)
        self.red = {t.id for t in suite.tests if self.ports.harness.red(t)}
        whole = SealDraft(
            files=answer.files,
            tests=[*(DraftTest(id=t.id, criterion=t.criterion) for t in kept.tests), *answer.tests],
            already_holding=[*kept.holding, *answer.already_holding],
        )
        spec = _only(self.spec, kept.criteria) if partly else self.spec
        return [*_links(whole, spec, suite), *_colours(whole, spec, suite, self.ports.harness)]


def _only(spec: Spec, criteria: set[str]) -> Spec:
    """Return a spec with some of its criteria only."""
    requirements = [
        r.model_copy(update={"criteria": [c for c in r.criteria if c.id in criteria]})
        for r in spec.requirements
    ]
    return spec.model_copy(update={"requirements": requirements})


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
