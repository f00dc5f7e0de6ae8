"""Use cases and the worker's loop: launch, advance, decide, resume, cancel."""
