"""Every error Phoenix raises, in one tree. The class docstring is the default message.

PhoenixError
├── InputError                 someone gave something unusable: say which field, and what to do
│   ├── RequirementInvalid
│   ├── BudgetInvalid
│   ├── PriceUnknown
│   ├── RepositoryUnreadable
│   ├── FlowFileInvalid
│   ├── ModelUnknown
│   ├── NoModel
│   ├── NotFound
│   ├── CheckpointUnknown
│   ├── PayloadInvalid
│   ├── PayloadTooLarge
│   ├── SettingInvalid
│   ├── SecretUnavailable
│   └── AddressRefused
├── Conflict                   expected: somebody else was first, or the thing has changed
│   ├── DecisionConflict
│   ├── RunSuperseded
│   ├── EffectConflict
│   ├── DeleteRefused
│   ├── ResumeRefused
│   ├── ForkRefused
│   ├── ThreadBusy
│   ├── AlreadyThere
│   ├── KeyReused
│   └── VersionConflict
├── AccessError                who is there, and what they may do
│   ├── Unauthenticated
│   ├── Forbidden
│   ├── RateLimited
│   │   └── QuotaReached
│   └── ProviderUnavailable
├── FlowError                  a pipeline is wrong, or a step of it failed
│   ├── FlowInvalid
│   ├── StepTypeMismatch
│   ├── BranchMissing
│   ├── LoopExhausted
│   ├── RunStopped
│   ├── RunQuarantined
│   └── StepRejected
├── DomainInvalid              an orphan reference, a cycle, an uncovered criterion
├── AgentError                 an agent could not do its work
│   ├── AgentGaveUp
│   ├── OutputUnusable
│   └── SealBroken
├── ModelError                 a model call failed
│   ├── ModelTimeout
│   ├── ModelRateLimited
│   ├── ModelUnavailable
│   ├── ModelRefusedKey
│   ├── ModelRejected
│   ├── BudgetSpent
│   ├── RecordingMissing
│   └── RecordingMismatch
├── SandboxError               isolation is missing or broke
│   ├── SandboxUnavailable
│   ├── ProvisionFailed
│   └── PathRefused
├── WorkspaceError             git said no
│   ├── GitFailed
│   └── WorkspaceBusy
├── StorageError               the database, the disk, or a checkpoint
│   ├── DatabaseUnavailable
│   ├── DiskFull
│   ├── SchemaTooNew
│   ├── SchemaTooOld
│   ├── SchemaInUse
│   ├── MemoryUnavailable
│   └── CheckpointRefused
└── ServiceError               the HTTP service that a command speaks to
    ├── ServiceUnreachable
    └── ServiceFailed
"""

from __future__ import annotations

from typing import Literal

Category = Literal["input", "conflict", "transient", "permanent", "budget", "security"]


class PhoenixError(Exception):
    """Something went wrong in Phoenix.

    Args:
        message: What happened, in a sentence; the class docstring's first line when left out.
        hint: What the reader can do about it.
        field: The input field or setting that is at fault, as a dotted path.
    """

    category: Category = "permanent"

    def __init__(self, message: str = "", *, hint: str = "", field: str = "") -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.field = field
        super().__init__(self.message)

    @property
    def code(self) -> str:
        """The stable name of this kind of error, in snake case."""
        return code_of(type(self))

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        return f"{where}{self.message}" + (f" {self.hint}" if self.hint else "")


def code_of(kind: type[PhoenixError]) -> str:
    """Return the stable name of a kind of error, in snake case."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in kind.__name__).lstrip("_")


class InputError(PhoenixError):
    """The input cannot be used."""

    category: Category = "input"


class RequirementInvalid(InputError):
    """The requirement is empty or too long."""


class BudgetInvalid(InputError):
    """The budget is not a positive amount of USD."""


class PriceUnknown(InputError):
    """The price of a model is unknown."""


class RepositoryUnreadable(InputError):
    """The repository cannot be read."""


class FlowFileInvalid(InputError):
    """The workflow file cannot be used."""


class ModelUnknown(InputError):
    """No such model or provider is known."""


class NoModel(InputError):
    """No model is configured."""


class NotFound(InputError):
    """There is no such thing."""


class CheckpointUnknown(InputError):
    """There is no such checkpoint."""


class PayloadInvalid(InputError):
    """The request cannot be read. `problems` are (field, message) pairs."""

    def __init__(
        self,
        message: str = "",
        *,
        problems: tuple[tuple[str, str], ...] = (),
        hint: str = "",
        field: str = "",
    ) -> None:
        self.problems = problems
        super().__init__(message, hint=hint, field=field)


class PayloadTooLarge(InputError):
    """The request is larger, or more deeply nested, than is allowed."""


class SettingInvalid(InputError):
    """A setting is missing or wrong."""


class SecretUnavailable(InputError):
    """A secret cannot be had from where it is kept."""

    category: Category = "transient"


class AddressRefused(InputError):
    """The address is not one that Phoenix connects to on a user's behalf."""


class Conflict(PhoenixError):
    """Somebody else was first, or the thing has changed."""

    category: Category = "conflict"


class DecisionConflict(Conflict):
    """This approval is already decided, or what it was about has changed."""


class RunSuperseded(Conflict):
    """Another attempt of this run has taken over."""


class EffectConflict(Conflict):
    """Another effect was asked for under this key."""


class DeleteRefused(Conflict):
    """A project that is being worked on cannot be deleted."""


class ResumeRefused(Conflict):
    """A resume must name the interrupt it answers."""


class ForkRefused(Conflict):
    """A project cannot be forked there."""


class ThreadBusy(Conflict):
    """The thread has an unfinished run."""


class AlreadyThere(Conflict):
    """There is such a thing already."""


class KeyReused(Conflict):
    """This idempotency key was used for another request."""


class VersionConflict(Conflict):
    """The thing has changed since it was read."""


class AccessError(PhoenixError):
    """Access is refused."""

    category: Category = "security"


class Unauthenticated(AccessError):
    """Nobody is signed in."""


class Forbidden(AccessError):
    """This is not allowed to who is signed in."""


class RateLimited(AccessError):
    """There were too many requests. `after_seconds` is how long to wait."""

    category: Category = "transient"

    def __init__(
        self, message: str = "", *, after_seconds: float = 1.0, hint: str = "", field: str = ""
    ) -> None:
        self.after_seconds = after_seconds
        super().__init__(message, hint=hint, field=field)


class QuotaReached(RateLimited):
    """The organisation uses all that it may."""


class ProviderUnavailable(AccessError):
    """The identity provider cannot be reached, or does not answer as it should."""

    category: Category = "transient"


class FlowError(PhoenixError):
    """A pipeline is wrong, or a step of it failed."""


class FlowInvalid(FlowError):
    """The pipeline does not hold together."""


class StepTypeMismatch(FlowError):
    """A step received or returned a value of the wrong type."""


class BranchMissing(FlowError):
    """No branch has this key and there is no default."""


class LoopExhausted(FlowError):
    """The loop reached its cap before its predicate held. `last` is the last output."""

    def __init__(self, message: str = "", *, last: object = None, hint: str = "", field: str = "") -> None:
        super().__init__(message, hint=hint, field=field)
        self.last = last


class RunStopped(FlowError):
    """A hook stopped the run."""


class RunQuarantined(FlowError):
    """Workers died with this run in hand, and it is not tried again by itself."""


class StepRejected(FlowError):
    """A validator refused the step's output. `message` is the feedback."""


class DomainInvalid(PhoenixError):
    """The document does not hold together. `problems` are (path, message) pairs."""

    category: Category = "input"

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(f"{path}: {text}" for path, text in problems))


class AgentError(PhoenixError):
    """An agent could not do its work."""


class AgentGaveUp(AgentError):
    """The agent says that it cannot go on."""


class OutputUnusable(AgentError):
    """The model's output does not fit the schema and could not be repaired."""


class SealBroken(AgentError):
    """A sealed acceptance test was changed."""

    category: Category = "security"


class ModelError(PhoenixError):
    """A model call failed."""


class ModelTimeout(ModelError):
    """The model did not answer in time."""

    category: Category = "transient"


class ModelRateLimited(ModelError):
    """The provider asks for fewer requests."""

    category: Category = "transient"


class ModelUnavailable(ModelError):
    """The provider cannot be reached or is broken."""

    category: Category = "transient"


class ModelRefusedKey(ModelError):
    """The provider refuses the API key."""


class ModelRejected(ModelError):
    """The provider refuses the request as it is."""


class BudgetSpent(ModelError):
    """The project's budget is spent.

    Args:
        message: As of every error.
        hint: As of every error.
        field: As of every error.
        scope: Whose budget: `task`, `project`, `organisation` or `day`.
        measure: Of what: `usd`, `tokens`, `calls` or `wall_seconds`.
        task: Of scope `task` its id.
    """

    category: Category = "budget"

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        field: str = "",
        scope: str = "project",
        measure: str = "usd",
        task: str = "",
    ) -> None:
        super().__init__(message, hint=hint, field=field)
        self.scope = scope
        self.measure = measure
        self.task = task


class RecordingMissing(ModelError):
    """The recording has no answer for this call."""


class RecordingMismatch(ModelError):
    """The recording was made with other tools or other tool results."""


class SandboxError(PhoenixError):
    """Isolation is missing or broke."""

    category: Category = "security"


class SandboxUnavailable(SandboxError):
    """No sandbox works on this machine, so nothing will be executed."""


class ProvisionFailed(SandboxError):
    """The project's declared dependencies could not be installed."""


class PathRefused(SandboxError):
    """The path leaves the workspace or is not a regular file."""


class WorkspaceError(PhoenixError):
    """The project's repository could not be worked on."""


class GitFailed(WorkspaceError):
    """A git command failed."""


class WorkspaceBusy(WorkspaceError):
    """Another process works on this project's files and does not let go."""

    category: Category = "transient"


class StorageError(PhoenixError):
    """The database, the disk, or a checkpoint failed."""


class DatabaseUnavailable(StorageError):
    """The database cannot be reached."""

    category: Category = "transient"


class DiskFull(StorageError):
    """The disk is full."""

    category: Category = "transient"


class SchemaTooNew(StorageError):
    """The database was migrated beyond what this version can work with."""


class SchemaTooOld(StorageError):
    """The database lacks migrations that this version needs."""


class SchemaInUse(StorageError):
    """Processes are connected that need what a migration would remove."""

    category: Category = "conflict"


class MemoryUnavailable(StorageError):
    """The vectors of what is remembered cannot be used."""

    category: Category = "transient"


class CheckpointRefused(StorageError):
    """A checkpoint holds a type that is not on the allow-list."""

    category: Category = "security"


class ServiceError(PhoenixError):
    """The HTTP service could not be used."""


class ServiceUnreachable(ServiceError):
    """The HTTP service cannot be reached."""

    category: Category = "transient"


class ServiceFailed(ServiceError):
    """The HTTP service could not answer."""
