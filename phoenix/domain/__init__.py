"""Frozen models of everything Phoenix speaks of: "code as data", each with a JSON Schema."""
