"""Upgrade a database again and again, killed by SIGKILL before its 1st, 2nd, ... statement, then to the end.

Arguments: the database's URL. Prints `killed N` for every kill and `done` at the end. Each attempt is a
process of its own, forked before any thread or connection is there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

from phoenix.storage.migrate import upgrade


def attempt(url: str, last: int) -> None:
    """Upgrade, but die by SIGKILL before statement number `last`."""
    seen = 0

    @event.listens_for(Engine, "before_cursor_execute")
    def count(*_arguments: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(upgrade(url))


def main(url: str) -> None:
    """Kill every attempt one statement later than the last one."""
    last = 0
    while True:
        last += 1
        pid = os.fork()
        if pid == 0:
            attempt(url, last)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            print(f"killed {last}", flush=True)
            continue
        assert os.WEXITSTATUS(status) == 0, status
        print("done", flush=True)
        return


if __name__ == "__main__":
    main(sys.argv[1])
