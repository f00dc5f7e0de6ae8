"""Adapters of the sandbox port: bubblewrap, sandlock, docker, kubernetes; the host by explicit setting."""
