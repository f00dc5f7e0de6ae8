"""What the table of events costs at 5 million rows, as it is and partitioned by month.

    python benchmarks/events_table.py [ROWS]

Prints for both forms: loading, appending one event, reading a project's events, and taking the oldest month
away. The last line is the ratio that decides: reading a project, partitioned over plain.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from phoenix.storage.embedded import EmbeddedPostgres

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
EVENTS_A_PROJECT = 200
PROJECTS = ROWS // EVENTS_A_PROJECT
MONTHS = 12
TABLES = ("plain", "parted")
BATCH = 5_000
READS = 400
DATA = (
    '\'{"key": "build/1/T3", "step": "code", "tool": "edit_file", "path": "src/calculator/parser.py",'
    ' "seconds": 0.25, "input_tokens": 4096, "output_tokens": 512, "n": \' || s || \'}\''
)
COLUMNS = (
    "project_id uuid NOT NULL, seq bigint NOT NULL, run_id uuid, kind text NOT NULL, data jsonb NOT NULL"
)
LOAD = f"""
INSERT INTO TABLE_NAME
SELECT lpad(p::text, 32, '0')::uuid, s, lpad(p::text, 32, '0')::uuid, 'tool_called', ({DATA})::jsonb,
    timestamptz '2026-01-01' + interval '365 days' * ((p + 0.0) / {PROJECTS + 1})
FROM generate_series(%s::int, %s::int) p, generate_series(1, {EVENTS_A_PROJECT}) s
"""
OLDEST = "2026-02-01"
Connection = psycopg.AsyncConnection[Any]


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with (
            EmbeddedPostgres(Path(folder) / "home") as url,
            await psycopg.AsyncConnection.connect(url, autocommit=True) as connection,
        ):
            await make(connection)
            for table in TABLES:
                await fill(connection, table)
            reads = await measure(connection)
            await take_away(connection)
    print(f"ratio reading a project, partitioned over plain: {reads['parted'] / reads['plain']:.2f}")


async def make(connection: Connection) -> None:
    """Make both tables."""
    await connection.execute(
        f"CREATE TABLE plain ({COLUMNS}, at timestamptz NOT NULL, PRIMARY KEY (project_id, seq))"
    )
    # A partitioned table's key must hold what it is partitioned by, so a number could come twice.
    await connection.execute(
        f"CREATE TABLE parted ({COLUMNS}, at timestamptz NOT NULL, PRIMARY KEY (project_id, seq, at))"
        " PARTITION BY RANGE (at)"
    )
    for month in range(1, MONTHS + 1):
        to = f"2026-{month + 1:02}-01" if month < MONTHS else "2027-01-01"
        await connection.execute(
            f"CREATE TABLE parted_{month:02} PARTITION OF parted"
            f" FOR VALUES FROM ('2026-{month:02}-01') TO ('{to}')"
        )


async def fill(connection: Connection, table: str) -> None:
    """Load a table and print what that took."""
    seconds = await timed(lambda: load(connection, table))
    await connection.execute(f"VACUUM ANALYZE {table}")
    size = await one(
        connection,
        "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname ~ ('^' || %s)",
        table,
    )
    print(
        f"{table}: {ROWS} rows loaded in {seconds:.0f} s, {float(size) / ROWS:.0f} bytes each with the index"
    )


async def measure(connection: Connection) -> dict[str, float]:
    """Append and read in turn, print the figures, and return the median time of a read in seconds."""
    appends: dict[str, list[float]] = {table: [] for table in TABLES}
    reads: dict[str, list[float]] = {table: [] for table in TABLES}
    for n in range(READS):
        for table in TABLES if n % 2 else TABLES[::-1]:
            appends[table].append(await timed(lambda table=table, n=n: append(connection, table, n)))
            reads[table].append(await timed(lambda table=table, n=n: read(connection, table, n)))
    for table in TABLES:
        print(
            f"{table}: append, committed: {told(appends[table])}; read a project's {EVENTS_A_PROJECT}: "
            f"{told(reads[table])}"
        )
    return {table: statistics.median(reads[table]) for table in TABLES}


async def load(connection: Connection, table: str) -> None:
    step = max(1, BATCH // 10)
    for begin in range(1, PROJECTS + 1, step):
        await connection.execute(LOAD.replace("TABLE_NAME", table), (begin, min(begin + step - 1, PROJECTS)))


async def append(connection: Connection, table: str, n: int) -> None:
    project = UUID(f"{(n * 7919) % PROJECTS + 1:032}")
    await connection.execute(
        f"INSERT INTO {table} VALUES (%s, %s, NULL, 'tool_called', '{{}}', '2026-12-31')",
        (project, EVENTS_A_PROJECT + 1 + n),
    )


async def read(connection: Connection, table: str, n: int) -> None:
    project = UUID(f"{(n * 104729) % PROJECTS + 1:032}")
    query = f"SELECT * FROM {table} WHERE project_id = %s AND seq > 0 ORDER BY seq LIMIT 1000"
    await (await connection.execute(query, (project,))).fetchall()


async def take_away(connection: Connection) -> None:
    """Take the oldest month away: by batches of rows, and as a partition."""
    last = await one(connection, "SELECT max(project_id::text) FROM plain WHERE at < %s", OLDEST)
    slowest, count = 0.0, 0
    begin = time.perf_counter()
    for project in range(1, int(last.replace("-", "")) + 1, BATCH // EVENTS_A_PROJECT):
        ids = [UUID(f"{n:032}") for n in range(project, project + BATCH // EVENTS_A_PROJECT)]
        started = time.perf_counter()
        deleted = await connection.execute("DELETE FROM plain WHERE project_id = ANY(%s)", (ids,))
        slowest = max(slowest, time.perf_counter() - started)
        count += deleted.rowcount
    whole = time.perf_counter() - begin
    vacuum = await timed(lambda: connection.execute("VACUUM plain"))
    print(
        f"plain: {count} rows deleted by project in {whole:.1f} s, the slowest batch of {BATCH} took "
        f"{slowest * 1000:.0f} ms; vacuum {vacuum:.1f} s"
    )
    drop = await timed(lambda: connection.execute("DROP TABLE parted_01"))
    print(f"parted: the partition of the same month dropped in {drop * 1000:.0f} ms")


async def one(connection: Connection, query: str, value: str) -> Any:
    row = await (await connection.execute(query, (value,))).fetchone()
    assert row is not None
    return row[0]


async def timed(work: Callable[[], Coroutine[Any, Any, Any]]) -> float:
    begin = time.perf_counter()
    await work()
    return time.perf_counter() - begin


def told(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p95 = statistics.median(ordered), ordered[int(0.95 * len(ordered))]
    return f"p50 {p50 * 1000:.2f} ms, p95 {p95 * 1000:.2f} ms"


if __name__ == "__main__":
    asyncio.run(main())
