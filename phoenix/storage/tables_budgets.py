"""The tables of budgets: what each has used, and what is held for calls that are being made.

Limits are with what they limit: `projects.budget_usd` and `projects.limits`, `organisations.max_usd_day`
and `organisations.limits`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from phoenix.storage.tables import CLOCK, JSON, TIME, ZERO, metadata

# What was used in one scope; made when a call first asks for it, and raised by a trigger on `model_calls`.
budget_accounts = Table(
    "budget_accounts",
    metadata,
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    # Order in which accounts are locked: organisation, day, project, task.
    Column("rank", Integer, nullable=False),
    Column("scope", Text, nullable=False),
    # Empty, a day as YYYY-MM-DD, a project's id, or that with `:` and the task's.
    Column("key", Text, nullable=False),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE")),
    Column("usd", Numeric, nullable=False, server_default=ZERO),
    Column("tokens", BigInteger, nullable=False, server_default=ZERO),
    Column("calls", BigInteger, nullable=False, server_default=ZERO),
    # The limits of which people were told that they are nearly reached; another limit is told anew.
    Column("warned", JSON, nullable=False, server_default=text("'{}'")),
    PrimaryKeyConstraint("organisation_id", "scope", "key"),
    CheckConstraint("scope IN ('task', 'project', 'organisation', 'day')", name="scope"),
    Index(None, "project_id"),
)

# One row for each call that is being made under a limit.
budget_holds = Table(
    "budget_holds",
    metadata,
    Column("id", UUID(), primary_key=True),
    Column("organisation_id", ForeignKey("organisations.id", ondelete="CASCADE"), nullable=False),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("task", Text, nullable=False, server_default=""),
    # The advisory lock of the worker that makes the call; null outside of a worker.
    Column("worker", BigInteger),
    Column("usd", Numeric, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("held_at", TIME, nullable=False, server_default=CLOCK),
    # When the call is over in any case.
    Column("until", TIME, nullable=False),
    Index(None, "organisation_id"),
    Index(None, "project_id"),
)
