"""Write the golden files: `python -m tests.golden.make schemas`, or `... checkpoints VERSION` at a release.

Checkpoints of a release are written once and never again: they stand for what users have in their databases.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from phoenix.checkpoints.saver import open_saver
from phoenix.domain.schemas import schemas
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.migrate import upgrade
from tests.golden.graph import REQUEST, THREAD, golden_graph
from tests.golden.rows import read_rows

HERE = Path(__file__).parent
SCHEMAS = HERE / "schemas.json"


def pretty(value: Any) -> str:
    """Return JSON as the golden files hold it."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


async def make_checkpoints(version: str) -> None:
    """Run the flow up to its first approval, and keep what the database holds then."""
    target = HERE / f"checkpoints-{version}.json"
    if target.exists():
        raise SystemExit(f"{target} exists: checkpoints of a release are never rewritten")
    with tempfile.TemporaryDirectory() as home:
        async with EmbeddedPostgres(Path(home)) as url:
            await upgrade(url)
            async with open_saver(url) as saver:
                graph = golden_graph().compile(checkpointer=saver)
                await graph.ainvoke(
                    {"request": REQUEST}, {"configurable": {"thread_id": THREAD}}, durability="sync"
                )
            target.write_text(pretty(await read_rows(url)))


def main() -> None:
    """Write what the command line names."""
    match sys.argv[1:]:
        case ["schemas"]:
            SCHEMAS.write_text(pretty(schemas()))
        case ["checkpoints", version]:
            asyncio.run(make_checkpoints(version))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
