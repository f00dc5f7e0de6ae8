"""Alembic's migrations, run by `phoenix.storage.migrate`."""
