"""The tables of Phoenix. Queue and checkpoint tables belong to their libraries and are not here."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR, UUID

from phoenix.domain.run import DEFAULT_ORGANISATION

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

JSON = JSONB(none_as_null=True)
TIME = DateTime(timezone=True)
ZERO = text("0")
CLOCK = func.clock_timestamp()

organisations = Table(
    "organisations",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    # How many of its runs may be worked on at once; null for any number.
    Column("max_runs", Integer),
    # How gates are decided in projects that say nothing else.
    Column("gate_rules", JSON, nullable=False, server_default=text("'{}'")),
    # How many of its projects may be unfinished at once, and USD a day of its model calls after which none
    # is launched; null for no such quota.
    Column("max_projects", Integer),
    Column("max_usd_day", Numeric),
    # Raised by every change: its ETag.
    Column("version", Integer, nullable=False, server_default=text("1")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # What agents' tools may do in its projects; null for nothing beyond the service's rules.
    Column("rules", JSON),
    # What its model calls may use, beside USD a day.
    Column("limits", JSON, nullable=False, server_default=text("'{}'")),
    CheckConstraint("max_runs > 0", name="max_runs"),
    CheckConstraint("max_projects >= 0", name="max_projects"),
    CheckConstraint("max_usd_day >= 0", name="max_usd_day"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column(
        "organisation_id",
        ForeignKey("organisations.id"),
        nullable=False,
        server_default=text(f"'{DEFAULT_ORGANISATION}'"),
    ),
    Column("title", Text, nullable=False),
    Column("requirement", Text, nullable=False),
    Column("repository", Text),
    Column("model", Text, nullable=False),
    Column("approvals", Text, nullable=False),
    Column("gate_rules", JSON, nullable=False, server_default=text("'{}'")),
    Column("path", Text, nullable=False),
    Column("budget_usd", Numeric),
    # What its model calls may use beside, and those of each of its tasks.
    Column("limits", JSON, nullable=False, server_default=text("'{}'")),
    Column("forked_from", ForeignKey("projects.id", ondelete="SET NULL")),
    # The checkpoint that it was forked at; empty for a project of its own.
    Column("forked_at", Text, nullable=False, server_default=""),
    # Among the projects of its organisation: the higher goes first.
    Column("priority", Integer, nullable=False, server_default=ZERO),
    # How many of its runs may be worked on at once; null for any number.
    Column("max_runs", Integer),
    Column("paused_at", TIME),
    Column("pause_reason", Text, nullable=False, server_default=""),
    # Out of the lists of those who look at what is going on.
    Column("archived_at", TIME),
    # Who launched it; null for what no user did.
    Column("created_by", UUID()),
    # What agents' tools may do, beside the rules of service and organisation.
    Column("rules", JSON),
    # Names the span that launched it (W3C); empty where nothing did that is traced.
    Column("traceparent", Text, nullable=False, server_default=""),
    # Raised by every change that a user makes to the project: its ETag.
    Column("version", Integer, nullable=False, server_default=text("1")),
    # What is searched. No language: requirements come in all of them.
    Column(
        "words",
        TSVECTOR,
        Computed("to_tsvector('simple', title || ' ' || left(requirement, 50000))", persisted=True),
    ),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # Numbers this project's events: raised in the transaction that writes them.
    Column("last_event", BigInteger, nullable=False, server_default=ZERO),
    # From when the project cannot be resumed, as its checkpoints go; and when all that goes was gone.
    Column("retired_at", TIME),
    Column("pruned_at", TIME),
    CheckConstraint("max_runs > 0", name="max_runs"),
    Index(None, "created_at"),
    Index(None, "organisation_id", "created_at", "id"),
    Index(None, "words", postgresql_using="gin"),
    Index(None, "forked_from", postgresql_where=text("forked_from IS NOT NULL")),
)

threads = Table(
    "threads",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("updated_at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "project_id"),
)

# Forks that are being made: what is copied for them belongs to nobody until their project's row is there.
begun_forks = Table(
    "begun_forks",
    metadata,
    # The project that it will be.
    Column("id", UUID(), primary_key=True),
    Column("threads", ARRAY(UUID()), nullable=False),
    Column("begun_at", TIME, nullable=False, server_default=CLOCK),
)

DUE = "status = 'pending' OR (status = 'waiting' AND wake)"

runs = Table(
    "runs",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column(
        "organisation_id",
        ForeignKey("organisations.id"),
        nullable=False,
        server_default=text(f"'{DEFAULT_ORGANISATION}'"),
    ),
    # Runs of a thread come one after the other and share its checkpoints; a run's first thread has its id.
    Column("thread_id", ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("parent_id", ForeignKey("runs.id", ondelete="CASCADE")),
    Column("key", Text, nullable=False, server_default=""),
    # The order of opening, also of children that one transaction opens.
    Column("ordinal", BigInteger, Identity(), nullable=False),
    Column("flow", Text, nullable=False),
    Column("status", Text, nullable=False),
    # Raised whenever a worker takes the run or somebody takes it away: every later write of an
    # earlier attempt is refused.
    Column("attempt", Integer, nullable=False, server_default=ZERO),
    Column("priority", Integer, nullable=False, server_default=ZERO),
    # Which workers take it; see `engine.queue.queue_of`.
    Column("queue", Text, nullable=False, server_default="default"),
    # What its coming did to an unfinished run of the same thread.
    Column("multitask", Text, nullable=False, server_default="enqueue"),
    Column("metadata", JSON, nullable=False, server_default=text("'{}'")),
    # The thread's checkpoint that it began from; null for a thread's first run.
    Column("base_checkpoint", Text),
    # How often in a row a worker died with it in hand at the same place, and that place.
    Column("crashes", Integer, nullable=False, server_default=ZERO),
    Column("crash_mark", Text),
    # Of the worker that took it last.
    Column("version", Text),
    # When somebody last released it: deaths before that count no more.
    Column("forgiven_at", TIME),
    # It holds one of the places of its project and organisation: it has a job, or is worked on.
    Column("admitted", Boolean, nullable=False, server_default=text("false")),
    # Its place among organisations: jobs of low tags are taken first (see docs/decisions/0016).
    Column("tag", Integer, nullable=False, server_default=ZERO),
    # Its project is paused: nobody takes it.
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    # It comes after an unfinished run of its thread.
    Column("behind", Boolean, nullable=False, server_default=text("false")),
    Column("input", JSON, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    # What the run waits for: a list of {id, request}; empty unless it is waiting.
    Column("interrupts", JSON, nullable=False, server_default=text("'[]'")),
    # Something happened that the run must look at before it may go on waiting.
    Column("wake", Boolean, nullable=False, server_default=text("false")),
    # When the run looks again by itself, though nothing happened; null for never.
    Column("resume_at", TIME),
    # Advisory lock that the worker's session holds while it lives; null when nobody works on the run.
    Column("worker", BigInteger),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    # When it last became due, was last taken, first began, and ended.
    Column("queued_at", TIME, nullable=False, server_default=CLOCK),
    Column("taken_at", TIME),
    Column("started_at", TIME),
    Column("finished_at", TIME),
    CheckConstraint(
        "status IN ('pending', 'running', 'waiting', 'success', 'failed', 'cancelled')", name="status"
    ),
    CheckConstraint("multitask IN ('reject', 'interrupt', 'rollback', 'enqueue')", name="multitask"),
    UniqueConstraint("parent_id", "key"),
    Index(None, "project_id", "ordinal"),
    Index(None, "thread_id", "ordinal"),
    Index(
        "ix_runs_unfinished",
        "status",
        postgresql_where=text("status IN ('pending', 'running', 'waiting')"),
    ),
    # Projects whose time may be over.
    Index(
        "ix_runs_ended",
        "finished_at",
        postgresql_where=text("parent_id IS NULL AND finished_at IS NOT NULL"),
    ),
    # How runs ended lately, to compare versions.
    Index(
        "ix_runs_outcome",
        "finished_at",
        postgresql_where=text("version IS NOT NULL AND finished_at IS NOT NULL"),
    ),
    # At most one run of a thread is worked on or waits.
    Index(
        "uq_runs_thread_present",
        "thread_id",
        unique=True,
        postgresql_where=text("status IN ('pending', 'running', 'waiting') AND NOT behind"),
    ),
    Index("ix_runs_root", "project_id", "ordinal", postgresql_where=text("parent_id IS NULL")),
    # Those that admission chooses from, in its order; and those that hold a place.
    Index(
        "ix_runs_held",
        "organisation_id",
        "queue",
        text("priority DESC"),
        "ordinal",
        "project_id",
        postgresql_where=text(f"NOT admitted AND NOT paused AND NOT behind AND ({DUE})"),
    ),
    Index("ix_runs_admitted", "organisation_id", "queue", postgresql_where=text("admitted")),
    Index("ix_runs_admitted_project", "project_id", postgresql_where=text("admitted")),
    Index(
        "ix_runs_resume", "resume_at", postgresql_where=text("status = 'waiting' AND resume_at IS NOT NULL")
    ),
    Index("ix_runs_worker", "worker", postgresql_where=text("worker IS NOT NULL")),
)

workers = Table(
    "workers",
    metadata,
    # The advisory lock that the worker holds while its session lives; `runs.worker` names it.
    Column("key", BigInteger, primary_key=True, autoincrement=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("queues", JSON, nullable=False),
    Column("concurrency", Integer, nullable=False),
    # Runs in hand at the last heartbeat.
    Column("running", Integer, nullable=False, server_default=ZERO),
    Column("state", Text, nullable=False, server_default="active"),
    # Why it is not active.
    Column("reason", Text, nullable=False, server_default=""),
    Column("started_at", TIME, nullable=False, server_default=CLOCK),
    Column("heartbeat_at", TIME, nullable=False, server_default=CLOCK),
    CheckConstraint("state IN ('active', 'draining', 'paused')", name="state"),
)

# Workers whose process died, and what they had in hand; see docs/decisions/0041.
worker_deaths = Table(
    "worker_deaths",
    metadata,
    Column("worker", BigInteger, primary_key=True, autoincrement=False),
    Column("host", Text, nullable=False, server_default=""),
    Column("version", Text, nullable=False, server_default=""),
    Column("runs", ARRAY(UUID()), nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "at"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("interrupt_id", Text, nullable=False),
    Column("request", JSON, nullable=False),
    Column("value_digest", Text, nullable=False),
    Column("decision", JSON),
    Column("decided_by", Text, nullable=False, server_default=""),
    Column("decided_how", Text, nullable=False, server_default=""),
    # As it was when it was asked.
    Column("rule", JSON, nullable=False, server_default=text("'{}'")),
    Column("deadline_at", TIME),
    # When the sweep has to do something about it; null when never.
    Column("next_at", TIME),
    Column("reminders", Integer, nullable=False, server_default=ZERO),
    Column("escalated_at", TIME),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("decided_at", TIME),
    CheckConstraint("decided_how IN ('', 'person', 'policy', 'deadline')", name="decided_how"),
    UniqueConstraint("run_id", "interrupt_id"),
    Index(None, "project_id", "created_at"),
    Index(
        "ix_approvals_next", "next_at", postgresql_where=text("next_at IS NOT NULL AND decided_at IS NULL")
    ),
)

approval_votes = Table(
    "approval_votes",
    metadata,
    Column("approval_id", ForeignKey("approvals.id", ondelete="CASCADE"), nullable=False),
    # The e-mail address, or the name on the service's own machine.
    Column("voter", Text, nullable=False),
    Column("voter_id", UUID()),
    Column("verdict", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    # Of what was looked at.
    Column("value_digest", Text, nullable=False),
    # Given after the approval was escalated: then only such votes count.
    Column("escalated", Boolean, nullable=False, server_default=text("false")),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("approval_id", "voter", "escalated"),
    CheckConstraint("verdict IN ('approve', 'edit', 'reject', 'respond')", name="verdict"),
)

events = Table(
    "events",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("run_id", UUID()),
    Column("kind", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("project_id", "seq"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("digest", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSON, nullable=False),
    # When it was last stored: the same document may come back after another one.
    Column("stored_at", TIME, nullable=False, server_default=CLOCK),
    # Copied into a fork from after the moment of the fork: found for reuse, but none of its own.
    Column("inherited", Boolean, nullable=False, server_default=text("false")),
    PrimaryKeyConstraint("project_id", "digest"),
    Index(None, "project_id", "kind", "stored_at"),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("agent", Text, nullable=False),
    Column("task", Text, nullable=False, server_default=""),
    Column("model", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    # USD; null when the price is unknown.
    Column("cost_usd", Numeric),
    Column("recorded", Boolean, nullable=False, server_default=text("false")),
    # Of the input tokens, those that the provider had in its prompt cache.
    Column("cached_tokens", BigInteger, nullable=False, server_default=ZERO),
    # Answered from the response cache.
    Column("cached", Boolean, nullable=False, server_default=text("false")),
    # Without a whole answer: the figures are the most that it can have used.
    Column("broken", Boolean, nullable=False, server_default=text("false")),
    Column("seconds", Numeric, nullable=False, server_default=ZERO),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    Index(None, "project_id"),
    # What was spent since midnight.
    Index(None, "at"),
)

# Answers of model calls, from their arrival until their run ends. A key names one call in one
# execution of one node; `request` is a digest of the step and of what was asked.
model_journal = Table(
    "model_journal",
    metadata,
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("request", Text, nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("step", Text, nullable=False),
    # Paid but unusable answers are kept too, so that they are not asked for again after a crash.
    Column("accepted", Boolean, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("at", TIME, nullable=False, server_default=CLOCK),
    PrimaryKeyConstraint("run_id", "request", "ordinal"),
)

# Answers of models to requests that may be asked again; `request` is a digest of all that was asked.
model_answers_cache = Table(
    "model_answers_cache",
    metadata,
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("request", Text, nullable=False),
    Column("answer", JSON, nullable=False),
    Column("expires_at", TIME, nullable=False),
    PrimaryKeyConstraint("organisation_id", "request"),
    Index(None, "expires_at"),
)

outbox = Table(
    "outbox",
    metadata,
    # Also the queue's lock of the job that does it.
    Column("id", UUID(), primary_key=True),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("run_id", ForeignKey("runs.id", ondelete="CASCADE")),
    Column("kind", Text, nullable=False),
    # The idempotency key: the same one again is the same effect.
    Column("key", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    # A job does it; else the step that waits for its result, which is done again after a crash.
    Column("posted", Boolean, nullable=False, server_default=text("false")),
    Column("status", Text, nullable=False, server_default="pending"),
    Column("attempts", Integer, nullable=False, server_default=ZERO),
    # Why the last attempt failed; null after one that did not.
    Column("error", Text),
    Column("result", JSON),
    Column("next_attempt_at", TIME, nullable=False, server_default=CLOCK),
    Column("created_at", TIME, nullable=False, server_default=CLOCK),
    Column("updated_at", TIME, nullable=False, server_default=CLOCK),
    CheckConstraint("status IN ('pending', 'begun', 'done', 'failed')", name="status"),
    UniqueConstraint("kind", "key"),
    Index(None, "project_id"),
    Index("ix_outbox_open", "next_attempt_at", postgresql_where=text("status IN ('pending', 'begun')")),
)

# Circuit breakers of models, by model and base URL; one that is closed and without failures has no row.
circuits = Table(
    "circuits",
    metadata,
    Column("name", Text, primary_key=True),
    Column("failures", Integer, nullable=False, server_default=ZERO),
    # Unix times by the database's clock.
    Column("failed_at", Double, nullable=False, server_default=ZERO),
    # Null while it is closed.
    Column("open_until", Double),
    Column("open_seconds", Double, nullable=False, server_default=ZERO),
    # Until when a probe may be under way; null without one.
    Column("probe_until", Double),
)
