"""The HTTP front door: REST under `/api/v1`, events as streams, and nothing that is not in the engine."""
