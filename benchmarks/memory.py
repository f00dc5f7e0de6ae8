"""Recall at size, and how well it finds: the fused search beside bare Chroma and bare full text.

    python -m benchmarks.memory               10,000 and 100,000 items, then the labelled set
    python -m benchmarks.memory --labelled    the labelled set alone
    python -m benchmarks.memory --development the set that the fusion was chosen on, alone

Exits with 0 only where the query's p95 is at most 1.5 times both parts' together, and recall@5 of the fused
search is above either part's alone with every embedder that is installed. Tune on the development set only.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.databases import drop, fresh, postgres
from phoenix.domain.memory import MemoryDraft, MemoryQuery
from phoenix.domain.run import DEFAULT_ORGANISATION as OWN
from phoenix.engine.memories import DENSE_WIDTH, WORDS_WIDTH, Memories, MemoryOptions
from phoenix.memory import minilm, wordllama
from phoenix.memory.chroma import ChromaVectors
from phoenix.memory.hashing import HashedEmbedder
from phoenix.memory.minilm import MiniLMEmbedder
from phoenix.memory.wordllama import WordLlamaEmbedder
from phoenix.ports_memory import Embedder
from phoenix.storage.database import connect, transaction
from phoenix.storage.memories import any_word
from phoenix.storage.migrate import upgrade
from phoenix.storage.tables_memory import memories

LABELLED = Path(__file__).parent / "data" / "memory_labelled.jsonl"
DEVELOPMENT = LABELLED.with_name("memory_development.jsonl")
SIZES = (10_000, 100_000)
QUERIES = 200
AT = 5
MOST = 1.5
SEED = 7


def labelled(file: Path = LABELLED) -> tuple[dict[str, dict[str, Any]], list[tuple[str, set[str]]]]:
    """Return the items by id, and the queries with the ids that answer them."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    items = {line["id"]: line for line in lines if "id" in line}
    return items, [(line["query"], set(line["relevant"])) for line in lines if "query" in line]


@asynccontextmanager
async def migrated() -> AsyncIterator[AsyncEngine]:
    """Give a database with Phoenix's schema, and drop it at the end."""
    async with postgres() as server:
        url = await fresh(server, "memory")
        await upgrade(url)
        database = connect(url)
        yield database
        await database.dispose()
        await drop(server, url)


def p95(seconds: Sequence[float]) -> float:
    """Return the 95th percentile in milliseconds."""
    return quantiles(seconds, n=20)[-1] * 1000


async def timed(asks: Sequence[Callable[[], Awaitable[object]]]) -> list[float]:
    """Return how long each took, in seconds."""
    found = []
    for ask in asks:
        began = time.perf_counter()
        await ask()
        found.append(time.perf_counter() - began)
    return found


# --- at size ---------------------------------------------------------------------------------


def grown(count: int) -> list[MemoryDraft]:
    """Return so many items, each of sentences of labelled ones mixed with others' words."""
    chance, items = random.Random(SEED), list(labelled()[0].values())
    words = sorted({w for item in items for w in item["text"].split()})
    return [
        MemoryDraft(
            kind=items[n % len(items)]["kind"],
            text=f"{items[n % len(items)]['text']} {' '.join(chance.choices(words, k=20))} {n}",
            language=items[n % len(items)]["language"].replace("css", ""),
        )
        for n in range(count)
    ]


async def bare_words(database: AsyncEngine, said: str) -> object:
    """Search by words with one statement and nothing around it."""
    query = func.to_tsquery("english", any_word(said))
    found = (
        select(memories.c.id)
        .where(memories.c.organisation_id == OWN, memories.c.words.op("@@")(query))
        .order_by(func.ts_rank(memories.c.words, query, 1).desc())
        .limit(WORDS_WIDTH)
    )
    async with transaction(database) as connection:
        return (await connection.execute(found)).all()


def bare_chroma(folder: Path, embedder: Embedder) -> Callable[[str], Awaitable[object]]:
    """Return a search of the same collection without anything around it, in a thread as any server has to."""
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(folder / "1", settings=Settings(anonymized_telemetry=False))
    (collection,) = client.list_collections()

    def ask(said: str) -> object:
        vectors: Any = embedder.embed([said])
        return collection.query(query_embeddings=vectors, n_results=DENSE_WIDTH, include=["distances"])

    async def asked(said: str) -> object:
        return await asyncio.to_thread(ask, said)

    return asked


async def at_size(memory: Memories, folder: Path, embedder: Embedder, size: int) -> float:
    """Fill the memory up to a size; print figures and return the ratio of p95."""
    async with transaction(memory.database) as connection:
        there = (await connection.execute(select(func.count()).select_from(memories))).scalar_one()
    drafts = grown(size)[there:]
    began = time.perf_counter()
    for start in range(0, len(drafts), 1000):
        async with transaction(memory.database) as connection:
            await memory.store(connection, OWN, drafts[start : start + 1000])
    stored = time.perf_counter() - began
    began = time.perf_counter()
    await memory.index(OWN)
    indexed = time.perf_counter() - began
    async with memory.database.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("VACUUM ANALYZE memories"))
    said = [query for query, _ in labelled()[1]][:QUERIES]
    chroma = bare_chroma(folder, embedder)

    async def fused(query: str) -> object:
        dense, missed = await memory.near(OWN, query)
        assert not missed, missed
        async with transaction(memory.database) as connection:
            return await memory.hits(connection, OWN, MemoryQuery(text=query), dense)

    ways: Mapping[str, Callable[[str], Awaitable[object]]] = {
        "chroma": chroma,
        "words": lambda query: bare_words(memory.database, query),
        "fused": fused,
    }
    for way in ways.values():
        await timed([lambda w=way, q=q: w(q) for q in said[:20]])
    # In turn, so that a busy moment of the machine falls on all three.
    times: dict[str, list[float]] = {name: [] for name in ways}
    for query in said:
        for name, way in ways.items():
            times[name] += await timed([lambda w=way, q=query: w(q)])
    both = p95([a + b for a, b in zip(times["chroma"], times["words"], strict=True)])
    ratio = p95(times["fused"]) / both
    print(f"{size:>7} items  stored {len(drafts) / stored:6.0f}/s  vectors {len(drafts) / indexed:6.0f}/s")
    print(f"        p95 ms: chroma {p95(times['chroma']):.1f}, words {p95(times['words']):.1f},", end=" ")
    print(f"both {both:.1f}, fused {p95(times['fused']):.1f}: ratio {ratio:.2f}")
    return ratio


# --- the labelled set ------------------------------------------------------------------------


async def recall(memory: Memories, file: Path) -> dict[str, float]:
    """Return recall@5 of each way to search a set."""
    items, queries = labelled(file)
    names: dict[UUID, str] = {}
    for name, item in items.items():
        draft = MemoryDraft(kind=item["kind"], text=item["text"], language=item["language"])
        async with transaction(memory.database) as connection:
            (stored,) = (await memory.store(connection, OWN, [draft])).stored
        names[stored] = name
    await memory.index(OWN)
    hits = {"chroma": 0.0, "words": 0.0, "fused": 0.0}
    for said, relevant in queries:
        query = MemoryQuery(text=said)
        dense, missed = await memory.near(OWN, said)
        assert not missed, missed
        async with transaction(memory.database) as connection:
            for way, near in (("words", []), ("fused", dense)):
                found = await memory.hits(connection, OWN, query, near)
                hits[way] += share([names[h.item.id] for h in found], relevant)
        hits["chroma"] += share([names[i] for i, _ in dense], relevant)
    return {way: total / len(queries) for way, total in hits.items()}


def share(found: Sequence[str], relevant: set[str]) -> float:
    """Return how much of what is relevant, or of the five places, is among the first five."""
    return len(set(found[:AT]) & relevant) / min(AT, len(relevant))


async def at_sizes() -> bool:
    """Measure how long searches take, and tell whether the bar holds."""
    with tempfile.TemporaryDirectory() as name:
        folder, embedder = Path(name), HashedEmbedder()
        vectors = ChromaVectors(embedder, folder=folder)
        async with migrated() as database:
            memory = Memories(database, vectors, MemoryOptions(10**6, 10**9))
            ratios = [await at_size(memory, folder, embedder, size) for size in SIZES]
        await vectors.close()
    return max(ratios) <= MOST


async def finds_better(embedder: Embedder, file: Path) -> bool:
    """Measure recall of what a set asks for, and tell whether the fused search finds most."""
    with tempfile.TemporaryDirectory() as name:
        vectors = ChromaVectors(embedder, folder=Path(name))
        async with migrated() as database:
            found = await recall(Memories(database, vectors), file)
        await vectors.close()
    better = found["fused"] / max(found["chroma"], found["words"])
    parts = ", ".join(f"{way} {value:.3f}" for way, value in found.items())
    print(f"{embedder.name}: recall@{AT} of {len(labelled(file)[1])} queries: {parts}; ratio {better:.3f}")
    return better > 1


async def main() -> int:
    """Measure everything and return 0 where the bars hold."""
    file = DEVELOPMENT if "--development" in sys.argv else LABELLED
    kept = [] if {"--labelled", "--development"} & set(sys.argv) else [await at_sizes()]
    embedders: list[Embedder] = [HashedEmbedder()]
    if minilm.is_there():
        embedders.append(MiniLMEmbedder())
    if wordllama.is_there():
        embedders.append(WordLlamaEmbedder())
    kept += [await finds_better(embedder, file) for embedder in embedders]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
