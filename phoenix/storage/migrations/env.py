"""Alembic's environment: it runs on the connection that `phoenix.storage.migrate` gives it."""

from __future__ import annotations

from alembic import context

from phoenix.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
