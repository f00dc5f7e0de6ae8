"""Every seam of Phoenix, on one page. Adapters implement these; rooms above see nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import UUID

from phoenix.domain.evidence import Build, Delivery, Evidence, SuiteResult, TestResult
from phoenix.domain.frozen import Frozen
from phoenix.domain.plan import Plan
from phoenix.domain.project import Path as ProjectPath
from phoenix.domain.run import Event, ModelCall, Run, Usage
from phoenix.domain.spec import Spec

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

M = TypeVar("M", bound=Frozen)


# --- sandbox ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """What one command may use. Memory counts the whole process tree."""

    memory_bytes: int = 2 * 1024**3
    processes: int = 256
    cpu_seconds: float = 600.0
    file_bytes: int = 512 * 1024**2
    tmp_bytes: int = 512 * 1024**2
    output_bytes: int = 1024**2
    """Captured output beyond this is dropped from the middle: head and tail are kept."""


@dataclass(frozen=True)
class ExecuteResult:
    """How a command ended. `exit_code` is None when it was killed; `killed` then says why."""

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    killed: str = ""
    """Empty, or one of: timeout, cpu, memory, processes, disk, output."""
    truncated: bool = False

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class Environment:
    """An installed set of a project's declared dependencies, mounted read-only.

    `root` is a folder on the host; `path` are the folders that go first in PATH, below it.
    """

    id: str
    root: Path
    path: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


class Sandbox(Protocol):
    """Runs commands in isolation over one workspace folder. No network, nothing survives a call."""

    kind: str
    root: str
    """The workspace folder as commands see it."""

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        """Run a shell command in the workspace; return when it and all it started are gone."""

    async def upload(self, files: Mapping[str, bytes]) -> None:
        """Write files, by path relative to the workspace.

        Raises:
            PathRefused: a path is absolute, leaves the workspace, or passes through a link.
        """

    async def download(self, paths: Sequence[str]) -> dict[str, bytes]:
        """Read regular files, by path relative to the workspace; a missing one is left out.

        Raises:
            PathRefused: a path leaves the workspace, passes through a link, or is no regular file.
        """


class Sandboxes(Protocol):
    """Opens sandboxes of one kind: bubblewrap, sandlock or docker."""

    kind: str

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> Sandbox:
        """Return a sandbox over a folder. Costs nothing until it executes."""


class Provisioner(Protocol):
    """Installs what a project declares, before any of its code runs."""

    async def provision(self, workspace: Path) -> Environment:
        """Return the environment for the workspace's declared dependencies; idempotent, cached.

        Raises:
            ProvisionFailed: something declared cannot be installed.
        """


# --- workspace -------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeResult:
    """`commit` is the merge; None when there are conflicts, which name the files."""

    commit: str | None
    conflicts: tuple[str, ...] = ()


class Worktree(Protocol):
    """A checked-out folder of a project that one run works in."""

    path: Path
    name: str

    async def snapshot(self, message: str = "") -> str:
        """Record the folder as it is and return its commit id; the same content gives the same id.

        The commit's parent is the worktree's base. Ignored files are left out.
        """

    async def restore(self, commit: str) -> None:
        """Make the folder exactly that commit, ignored files gone. Stale locks do not hinder it."""

    async def current(self) -> str | None:
        """The commit this process last snapshotted or restored here; None when unknown."""

    async def diff(self, base: str, *, max_bytes: int = 200_000) -> str:
        """Return the unified diff from a commit to the folder as it is."""

    async def changed(self, base: str) -> list[str]:
        """Return paths that differ between a commit and the folder as it is, sorted."""

    async def files(self) -> list[str]:
        """Return all paths that are not ignored, sorted."""


class Workspace(Protocol):
    """The repository of one project. Everything in it is foreign: none of it may act on the host."""

    repository: Path

    async def prepare(self, source: str | None) -> str:
        """Make the repository, from a source or empty, and return the base commit. Idempotent.

        Raises:
            RepositoryUnreadable: the source is not a readable git repository.
        """

    async def worktree(self, name: str, commit: str) -> Worktree:
        """Open the named worktree, made at the commit when it is new. Idempotent."""

    async def remove(self, name: str) -> None:
        """Remove a worktree and its snapshots' refs."""

    async def commit(self, name: str, *, message: str, parents: Sequence[str]) -> str:
        """Make a lasting commit of a worktree's folder. The same input gives the same id."""

    async def merge(self, ours: str, theirs: str, *, message: str) -> MergeResult:
        """Merge two commits without a folder, conflicts found beforehand."""

    async def conflicted(self, name: str, ours: str, theirs: str) -> tuple[str, ...]:
        """Lay out a conflicting merge, with markers, in a worktree and return the files."""

    async def read(self, commit: str, path: str) -> bytes | None:
        """Return a regular file of a commit; None when there is none."""

    async def contents(self, commit: str, *, max_file_bytes: int = 200_000) -> dict[str, bytes]:
        """Return the regular files of a commit by path; larger ones with empty content."""

    async def log(self, base: str, commit: str) -> list[tuple[str, str]]:
        """Return (id, subject) of the commits after base, oldest first."""

    async def branch(self, name: str, commit: str) -> None:
        """Point a branch at a commit. Idempotent."""

    async def publish(self, target: str, name: str) -> None:
        """Push a branch to a repository on this machine; nothing checked out there changes. Idempotent.

        Raises:
            GitFailed: the repository refuses it, or its branch of that name has other commits.
        """

    async def patch(self, base: str, commit: str) -> str:
        """Return the unified diff between two commits."""


# --- models ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Caller:
    """Who calls a model: it decides routing, and a recording is matched by it."""

    agent: str
    task: str = ""
    """Empty for work on the whole project; else such as `T3` or `T3/review`."""


class UsageLog(Protocol):
    """What the model calls of one project used; a call's row outlives a crash of the step around it."""

    async def add(self, call: ModelCall) -> None:
        """Record one answered call."""

    async def total(self) -> Usage:
        """Return the sum over the project; its cost is None when a call's price is unknown."""


class Models(Protocol):
    """The models of one run: counted, priced, within budget, recorded."""

    name: str
    is_recording: bool
    """Answers are replayed from a file; screens say so."""

    def chat(self, caller: Caller) -> BaseChatModel:
        """Return a chat model that counts its calls as this caller's; it can bind tools."""

    async def structured(self, caller: Caller, messages: Sequence[BaseMessage], schema: type[M]) -> M:
        """Return the answer as a model.

        Tries the provider's schema mode, else a tool call; repairs what does not fit:
        deterministically first, then by one more call.

        Raises:
            OutputUnusable: it does not fit even then.
            BudgetSpent: before a call that the budget does not allow.
        """

    async def usage(self) -> Usage:
        """Return what the whole project has used so far."""


# --- the engine's services to running steps --------------------------------------------------


class Artifacts(Protocol):
    """Content-addressed store of a project's documents."""

    async def put(self, value: Frozen) -> str:
        """Store a model and return its digest. Idempotent."""

    async def get(self, digest: str, kind: type[M]) -> M:
        """Return a stored model.

        Raises:
            NotFound: there is none of that digest and kind in this project.
        """


class Events(Protocol):
    """The append-only log of one project."""

    async def emit(self, kind: str, **data: Any) -> None:
        """Append an event. Data is cleaned of what cannot be stored."""


@dataclass(frozen=True)
class ChildSpec:
    """A child run to open: `key` is unique among the parent's children; `input` goes to its flow."""

    key: str
    flow: str
    input: Frozen


class ChildRuns(Protocol):
    """Runs that a run opens and waits for. Rows are the truth, wake-ups only hints."""

    async def open(self, children: Sequence[ChildSpec]) -> None:
        """Open child runs in one transaction; those already open under their key are left as they are."""

    async def read(self, prefix: str = "") -> list[Run]:
        """Return this run's children whose key starts so, in order of opening.

        Raises:
            BudgetSpent: one of them stopped because the project's budget is spent.
        """


class Harness(Protocol):
    """Runs a project's tests and says what each did."""

    async def run(
        self,
        workspace: Path,
        *,
        paths: Sequence[str] = (),
        sealed: bool = False,
        timeout_seconds: float = 300.0,
    ) -> SuiteResult:
        """Run the repository's tests, or some of them, in a fresh sandbox.

        `sealed` ignores every configuration and conftest that the repository brings.
        """

    def red(self, result: TestResult) -> bool:
        """Tell whether a failure is the code's own (an import or collection error is not)."""


@dataclass(frozen=True)
class Parcel:
    """All that a delivery is made of."""

    title: str
    requirement: str
    spec: Spec
    plan: Plan | None
    build: Build
    evidence: Evidence
    log: Sequence[tuple[str, str]]
    """(id, subject) of the delivered commits, oldest first."""
    usage: Usage


class Outlet(Protocol):
    """Hands finished work to its user."""

    async def deliver(self, parcel: Parcel) -> Delivery:
        """Make the branch and the evidence report. Idempotent: the same parcel gives the same delivery."""


@dataclass(frozen=True)
class Ports:
    """What a running step may use: LangGraph's runtime context of every Phoenix graph."""

    project_id: UUID
    run_id: UUID
    artifacts: Artifacts
    events: Events
    children: ChildRuns
    models: Models
    workspace: Workspace
    sandboxes: Sandboxes
    provisioner: Provisioner
    harness: Harness
    outlet: Outlet
    path: ProjectPath = "auto"
    """The way the user chose for the project."""
    budget_usd: Decimal | None = None


class EventLog(Protocol):
    """Events as readers see them."""

    def follow(self, project_id: UUID, *, after: int = 0) -> AsyncIterator[Event]:
        """Replay events after a sequence number, then go on live, without gap or repeat."""

    async def read(self, project_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return stored events in order."""
