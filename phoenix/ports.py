"""Every seam of Phoenix, on one page. Adapters implement these; rooms above see nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar
from uuid import UUID

from phoenix.domain.approval import GateDecision
from phoenix.domain.budget import Hold, Most, Spent
from phoenix.domain.code import CodeFile, MergeResult
from phoenix.domain.effect import Effect as Effect  # noqa: PLC0414 - named here for steps
from phoenix.domain.evidence import Delivery, SuiteResult, TestResult
from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.domain.forecast import TaskCost
from phoenix.domain.frozen import Frozen
from phoenix.domain.gates import LeftOut
from phoenix.domain.lessons import Lessons
from phoenix.domain.parcel import Parcel as Parcel  # noqa: PLC0414 - named here for steps
from phoenix.domain.permissions import Ground, Ruling, ToolCall
from phoenix.domain.project import Path as ProjectPath
from phoenix.domain.run import CallKey, Event, KeptAnswer, ModelCall, Run, Usage
from phoenix.domain.steering import Message
from phoenix.ports_memory import Memory

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

M = TypeVar("M", bound=Frozen)


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
    """Opens sandboxes of one kind: bubblewrap, sandlock, docker or kubernetes."""

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

    async def prune(self, *, unused_seconds: float, dry_run: bool = False) -> tuple[int, int]:
        """Remove environments nobody used for so long, a day at least; return how many, and their bytes."""


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

    async def tree(self, commit: str) -> str | None:
        """Return the id of a commit's tree: the same for the same files. None when there is no commit."""

    async def branch(self, name: str, commit: str) -> None:
        """Point a branch at a commit. Idempotent."""

    async def publish(self, target: str, name: str) -> None:
        """Push a branch to another repository; nothing checked out there changes. Idempotent.

        Raises:
            GitFailed: the repository refuses it, or its branch of that name has other commits.
        """

    async def patch(self, base: str, commit: str) -> str:
        """Return the unified diff between two commits."""

    async def prune(self, *, dry_run: bool = False, expire_seconds: int = 3600) -> int:
        """Remove all worktrees and snapshots and return the bytes that gives back. Idempotent.

        Branches and lasting commits stay. What nothing refers to goes once it is that old.
        """

    async def destroy(self) -> None:
        """Remove the repository and all that belongs to it. Idempotent."""


class Repositories(Protocol):
    """The repositories of all projects."""

    async def copy(self, source: UUID, target: UUID) -> None:
        """Give a new project its own copy of another's repository, all commits in it. Idempotent.

        Worktrees are not copied: they are made anew from their commits. A project without a repository
        leaves nothing to copy.
        """

    async def discard(self, project_id: UUID) -> None:
        """Remove a project's repository. Idempotent."""


class Code(Protocol):
    """The code of all projects, as people look at it. Links in it are named and never followed."""

    async def base(self, project_id: UUID) -> str | None:
        """Return the commit that a project began with; None where it has no repository yet."""

    async def files(
        self, project_id: UUID, commit: str, *, after: str = "", limit: int = 500
    ) -> list[CodeFile] | None:
        """Return files of a commit after a path, by path; None when there is no such commit."""

    async def size(self, project_id: UUID, commit: str, path: str) -> int | None:
        """Return how large a regular file of a commit is; None when there is none."""

    async def read(self, project_id: UUID, commit: str, path: str) -> bytes | None:
        """Return a regular file of a commit; None when there is none."""

    async def patch(self, project_id: UUID, base: str, commit: str, *, max_bytes: int) -> str | None:
        """Return the diff between two commits, cut after so many bytes; None when one is not there."""


@dataclass(frozen=True)
class Caller:
    """Who calls a model: it decides routing, and a recording is matched by it."""

    agent: str
    task: str = ""
    """Empty for work on the whole project; else such as `T3` or `T3/review`."""
    size: Literal["", "S", "M", "L"] = ""
    """The task's size in the plan; empty where there is none."""
    attempt: int = 1
    """Counted from 1: what was tried before was not good enough."""


class UsageLog(Protocol):
    """What the model calls of one project used; a call's row outlives a crash of the step around it."""

    async def add(self, call: ModelCall) -> None:
        """Record one answered call."""

    async def total(self) -> Usage:
        """Return the sum over the project; its cost is None when a call's price is unknown."""


class CallJournal(Protocol):
    """The answers of one run's model calls, from their arrival on: none is paid twice."""

    async def find(self, key: CallKey) -> KeptAnswer | None:
        """Return a call's answer if it arrived before. One that this version cannot read is missing."""

    async def keep(
        self, key: CallKey | None, answer: KeptAnswer | None, call: ModelCall, *, hold: Hold | None = None
    ) -> None:
        """Count an answered call and keep its answer, both or neither; without a key only count it.

        A superseded attempt's answer is counted and not kept. What was held for the call is released with it.
        """


class Budgets(Protocol):
    """The budgets that one run's model calls are under, shared with all others under them."""

    async def limited(self) -> bool:
        """Tell whether there is any limit. Cheap; a limit that is set meanwhile is seen within a minute."""

    async def hold(self, caller: Caller, choices: Sequence[Most], *, seconds: float) -> Hold | Spent | None:
        """Hold what a call may use, in all budgets or in none; the sum never passes any of them.

        Args:
            caller: Who makes the call.
            choices: What it may use, the most first: the first that fits what is left is held.
            seconds: When the call is over in any case.

        Returns:
            The limit that not even the last choice fits; None where one would fit as soon as calls that are
            being made are counted.
        """

    async def release(self, hold: Hold) -> None:
        """Release what was held for a call that was not answered. Idempotent."""


class Models(Protocol):
    """The models of one run: counted, priced, within budget, recorded."""

    name: str
    is_recording: bool
    """Answers are replayed from a file; screens say so."""

    def chat(self, caller: Caller) -> BaseChatModel:
        """Return a chat model that counts its calls as this caller's; it can bind tools."""

    def room(self, caller: Caller) -> int | None:
        """Return how many tokens the model meant for a caller holds; None where nothing says it."""

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


class Artifacts(Protocol):
    """Content-addressed store of a project's documents."""

    async def put(self, value: Frozen) -> str:
        """Store a model and return its digest. Idempotent."""

    async def get(self, digest: str, kind: type[M]) -> M:
        """Return a stored model.

        Raises:
            NotFound: there is none of that digest and kind in this project.
        """

    async def find(self, kind: type[M], **texts: str) -> list[M]:
        """Return the stored models of a kind whose fields hold these texts, the last stored first.

        A fork finds what it inherited as well. One stored by a version whose model does not fit is left out.
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


class Gates(Protocol):
    """How people decide in one project, for steps that prepare what is decided on."""

    async def asks(self, gate: str, value: Mapping[str, Any]) -> bool:
        """Tell whether people are to decide on this value at a gate, as level and rules are now."""

    async def decisions(self) -> list[GateDecision]:
        """Return how the project's gates were decided so far, oldest first."""

    async def costs(self) -> list[TaskCost]:
        """Return what each task used so far, beside what was expected when people decided on the plan."""

    async def left_out(self) -> LeftOut:
        """Return what people took out of the project's scope when its budget was spent."""


class Outbox(Protocol):
    """Effects of one run, each asked for under an idempotency key and done once."""

    async def perform(self, effect: Effect) -> dict[str, Any]:
        """Have an effect done now and return its result; one that is done gives the result it had.

        One that a crash cut is done again under its key: it looks first, or repeating it changes nothing.

        Raises:
            EffectConflict: another effect was asked for under its key.
            RunSuperseded: another attempt of the run has taken over.
        """

    async def post(self, effect: Effect) -> None:
        """Have an effect done soon, by any worker, tried again with growing waits. Idempotent.

        Raises:
            EffectConflict, RunSuperseded: as `perform`.
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


class Outlet(Protocol):
    """Hands finished work to its user."""

    async def deliver(self, parcel: Parcel) -> Delivery:
        """Make the branch and the evidence report. Idempotent: the same parcel gives the same delivery."""

    async def annotate(self, lessons: Lessons) -> None:
        """Put what was learned beside the evidence. Idempotent.

        Raises:
            OSError: it cannot be written; the delivery is as it was.
        """


class Permissions(Protocol):
    """What the tools of one run may do."""

    async def judge(self, call: ToolCall, *, key: str, ground: Ground) -> Ruling:
        """Return what the rules say of a call, kept as a row before it is returned.

        The same key again gives the ruling that it had, whatever the rules say by now. Where the rules ask
        and nobody is there to be asked, the call is denied.
        """

    async def check(self, call: ToolCall, *, ground: Ground) -> Ruling:
        """Return what the rules say of a call that a person has changed; nothing is kept."""


class Steering(Protocol):
    """What people say to the agents of one run while they work."""

    async def unread(self, caller: Caller, *, after: int) -> list[Message]:
        """Return the messages to an agent after a number, in order."""

    async def read(self, caller: Caller, found: Sequence[Message], *, conversation: str, turn: int) -> None:
        """Tell those who follow the project that messages were read. Idempotent for each conversation."""


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
    gates: Gates
    permissions: Permissions
    steering: Steering
    memory: Memory | None = None
    """None where nothing is remembered: it is switched off, or model traffic is recorded or replayed."""
    path: ProjectPath = "auto"
    """The way the user chose for the project."""
    budget_usd: Decimal | None = None


class EventLog(Protocol):
    """Events as readers see them."""

    def follow(
        self, project_id: UUID, *, after: int = 0, kinds: Collection[str] = ()
    ) -> AsyncIterator[Event]:
        """Replay events after a sequence number, then go on live, without gap or repeat.

        Where kinds are named, only those come, and others cost nothing.
        """

    def watch(
        self, project_id: UUID, *, kinds: Collection[str] = ()
    ) -> AbstractAsyncContextManager[Callable[[], Awaitable[None]]]:
        """Watch a project: what is given returns after an event of these kinds, or a while without one.

        Look at what the events are about after entering, and each time that it returns.
        """

    async def read(self, project_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Return stored events in order."""
