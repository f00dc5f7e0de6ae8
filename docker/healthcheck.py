"""Exit with 0 when the process in this container answers: the HTTP service, or a worker's probe port."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask the port given as argument, else the service's, for /livez."""
    port = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("PHOENIX_PORT", "8400")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, urllib.error.URLError) as error:
        sys.stderr.write(f"port {port} does not answer: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
