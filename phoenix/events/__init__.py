"""The event log as its readers see it."""
