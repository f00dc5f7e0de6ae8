"""Alembic's environment: it runs on the connection that `phoenix.storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

from phoenix.storage import (
    tables_budgets,
    tables_door,
    tables_identity,
    tables_memory,
    tables_people,
    tables_traces,
)

assert tables_door.templates.metadata is tables_identity.users.metadata
assert tables_budgets.budget_holds.metadata is tables_identity.users.metadata is tables_traces.spans.metadata
assert tables_people.messages.metadata is tables_identity.users.metadata is tables_memory.memories.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables_identity.users.metadata,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
