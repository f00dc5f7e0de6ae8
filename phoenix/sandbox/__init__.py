"""Adapters of the sandbox port: bubblewrap, sandlock, docker, and the bare host by explicit setting."""
