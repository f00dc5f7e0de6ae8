"""Pipelines of agents: the development workflow, one task's loop, and the loading of users' flows."""
