"""`python -m phoenix.main`: serve the HTTP API, as the settings say."""

from __future__ import annotations

from phoenix.cli.app import app

if __name__ == "__main__":
    app(["up"])
