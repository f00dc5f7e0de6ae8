"""What was built, and the proof: criterion → tests → result → commits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from phoenix.domain.approval import GateDecision
from phoenix.domain.frozen import Commit, Digest, Frozen, Text

Outcome = Literal["passed", "failed", "error", "skipped", "missing"]


class TestResult(Frozen):
    """The result of one test in one execution. `message` is the failure's text, capped."""

    __test__ = False

    id: Text
    """A pytest node id, relative to the repository."""
    outcome: Outcome
    seconds: float = Field(default=0.0, ge=0)
    message: str = ""
    error: str = ""
    """Name of the exception that ended it, such as `AssertionError`."""
    where: str = ""
    """The repository's file that the exception came from last; empty when none had a part in it."""


class SuiteResult(Frozen):
    """One execution of a test command in a sandbox."""

    command: str
    exit_code: int | None
    tests: list[TestResult] = []
    output: str = ""
    """Head and tail of what it printed."""

    def outcome(self, test_id: str) -> Outcome:
        """Return the outcome of one test, `missing` when it did not run."""
        return next((t.outcome for t in self.tests if t.id == test_id), "missing")


class SealedFile(Frozen):
    """One acceptance test file, out of the coder's reach."""

    path: Text
    content: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SealedTest(Frozen):
    """A test that decides a criterion. `red` when it was seen to fail before the code existed."""

    id: Text
    criterion: str
    red: bool


class Sealed(Frozen):
    """Acceptance tests, written before the code and hashed."""

    contract: Digest
    base: Commit
    """The contract commit, on which every test was seen."""
    folder: str = "tests/acceptance"
    """Where the files go; nobody else may write there."""
    files: list[SealedFile] = []
    tests: list[SealedTest] = []


TaskStatus = Literal["waiting", "running", "built", "done", "failed", "blocked", "skipped"]
"""built: its own checks and review are green; done: merged as well, and verified after the merge; skipped:
people left it out, or something that it depends on."""


class TaskResult(Frozen):
    """How one task ended. `commit` is its own branch's head; `merged` the integration commit."""

    task: str
    status: TaskStatus
    summary: str = ""
    commit: Commit | None = None
    merged: Commit | None = None
    files: list[str] = []
    reason: str = ""
    rounds: int = 0
    """How many rounds of code, check and review it took."""
    notes: list[str] = []
    """What reviewers found but did not block for."""
    conflicts: list[str] = []
    """Files in which its merge conflicted and was resolved."""
    resolved: bool = False
    """An agent settled its merge: files conflicted, or tests failed after it."""
    reused: bool = False
    """Its commit was taken over from a task that had read the same."""


class CriterionTests(Frozen):
    """Tests that someone says decide a criterion."""

    criterion: str
    tests: list[str] = Field(min_length=1)


class Build(Frozen):
    """A state of the code that is ready to be verified."""

    spec: Digest
    plan: Digest | None = None
    sealed: Digest | None = None
    base: Commit
    commit: Commit
    tasks: list[TaskResult] = []
    declared: list[CriterionTests] = []
    """On the short path: the tests the coder names for each criterion."""
    summary: str = ""
    """On the short path: what the coder says of it."""
    round: int = 1


class CriterionEvidence(Frozen):
    """The proof for one criterion."""

    criterion: str
    text: str
    holds: bool
    source: Literal["sealed", "declared"]
    """Who wrote its tests: the test author before the code, or the coder with it."""
    tests: list[TestResult] = []
    tasks: list[str] = []
    commits: list[Commit] = []


class Evidence(Frozen):
    """The outcome of one verification in a clean checkout and a fresh sandbox."""

    build: Digest
    spec: Digest
    commit: Commit
    criteria: list[CriterionEvidence]
    suite: SuiteResult
    """All tests of the repository."""
    problems: list[str] = []
    """What is wrong beside red criteria, such as a failing test of the repository's own."""
    passed: bool
    sandbox: str = ""
    round: int = 1
    left_out: list[str] = []
    """Criteria that do not hold since people left out the tasks for them."""
    stopped: str = ""
    """Why nothing more is built, where people decided that."""
    decisions: list[GateDecision] = []
    """Who decided what and why, oldest first; filled in when it is delivered."""

    @property
    def settled(self) -> bool:
        """Whether there is nothing to mend: all holds, or what does not is not to be built."""
        red = [c.criterion for c in self.criteria if not c.holds and c.criterion not in self.left_out]
        return self.passed or bool(self.stopped) or not (red or self.problems)


class Delivery(Frozen):
    """What the user receives."""

    evidence: Digest
    branch: str
    commit: Commit
    repository: str
    """Path or address of the repository that holds the branch, without credentials."""
    report: str = ""
    """Path of the evidence report."""
