"""Structured logs. Log events are words with keys, never sentences."""
