"""What is remembered over real rows: limits, fusion, credit, forgetting, and vectors that fail."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.identity import Principal
from phoenix.domain.memory import MemoryDraft, MemoryQuery, ProjectOutcome, Recall, Recalled, TaskOutcome
from phoenix.domain.run import DEFAULT_ORGANISATION, Project, Run
from phoenix.engine.memories import Memories, MemoryOptions
from phoenix.engine.memory import RunMemory
from phoenix.engine.work import open_work
from phoenix.errors import AlreadyThere, MemoryUnavailable, NotFound, QuotaReached, VersionConflict
from phoenix.memory.chroma import ChromaVectors
from phoenix.memory.hashing import HashedEmbedder
from phoenix.memory.in_memory import MemoryVectors
from phoenix.storage import memories as rows
from phoenix.storage import memory_outcomes, projects, tenancy
from phoenix.storage.artifacts import ArtifactRows
from phoenix.storage.database import connect, transaction

OWN = DEFAULT_ORGANISATION
CSV = MemoryDraft(kind="snippet", text="Read CSV files with newline='' and utf-8-sig.", language="python")
GO = MemoryDraft(kind="snippet", text="Read CSV files with encoding/csv in Go.", language="go")
CHESS = MemoryDraft(kind="pattern", text="A game of chess: rules first, then the opponent.")


def new_project() -> Project:
    """Return a project."""
    return Project(id=uuid4(), title="t", requirement="r", model="m", created_at=datetime.now(UTC))


@dataclass
class Remembering:
    """A memory over a database, and its vectors."""

    database: AsyncEngine
    vectors: MemoryVectors
    memories: Memories

    async def run(self) -> RunMemory:
        """Return the memory of a new project's run."""
        project = new_project()
        async with transaction(self.database) as connection:
            await projects.add(connection, project)
        run = Run(
            id=uuid4(), project_id=project.id, flow="develop", status="running", created_at=project.created_at
        )
        return RunMemory(self.memories, run)

    async def have(self, *drafts: MemoryDraft) -> list[UUID]:
        """Store drafts with their vectors; return their ids in order."""
        found = []
        for draft in drafts:
            async with transaction(self.database) as connection:
                found += (await self.memories.store(connection, OWN, [draft])).stored
        await self.memories.index(OWN)
        return found

    def work(self, organisation_id: UUID = OWN) -> Any:
        """Open a request of an organisation's administrator."""
        who = Principal(
            user_id=uuid4(),
            organisation_id=organisation_id,
            email="ada@example.org",
            role="admin",
            via="key",
            credential_id=uuid4(),
        )

        async def find(connection: Any) -> Principal:
            await tenancy.enter(connection, organisation_id)
            return who

        return open_work(self.database, find)

    async def count(self, what: str) -> int:
        """Count the rows of a table."""
        async with transaction(self.database) as connection:
            return int((await connection.execute(text(f"SELECT count(*) FROM {what}"))).scalar_one())


@pytest.fixture
async def remembering(migrated_database_url: str) -> AsyncIterator[Remembering]:
    """Return an empty memory in which nothing is held out."""
    database, vectors = connect(migrated_database_url), MemoryVectors()
    yield Remembering(database, vectors, Memories(database, vectors, MemoryOptions(holdout=0.0)))
    await database.dispose()


def texts(found: Any) -> list[str]:
    """Return the texts of what was recalled."""
    return [item.text for item in found.items]


# --- recall ----------------------------------------------------------------------------------


async def test_recall_keeps_to_language_licence_and_kind(remembering: Remembering) -> None:
    """What is of no language fits all; a foreign snippet needs a licence that is allowed."""
    foreign = {"kind": "snippet", "origin": "foreign"}
    await remembering.have(
        CSV,
        GO,
        CHESS,
        MemoryDraft(text="Read CSV files by pandas.", licence="GPL-3.0", **foreign),
        MemoryDraft(text="Read CSV files by polars.", licence="MIT", **foreign),
        MemoryDraft(text="Read CSV files by hand.", **foreign),
    )
    run = await remembering.run()
    found = await run.recall(
        MemoryQuery(text="read a CSV file", kinds=["snippet"], languages=["python"]), task="T1"
    )
    assert sorted(texts(found)) == ["Read CSV files by polars.", CSV.text]
    assert {i.origin for i in found.items if "polars" in i.text} == {"foreign"}
    everything = await run.recall(MemoryQuery(text="read a CSV file", licences=[]), task="T1")
    assert len(everything.items) == 5


async def test_what_has_nothing_to_do_with_it_is_not_recalled(remembering: Remembering) -> None:
    """The nearest of few items is often far: an agent is better off without it."""
    await remembering.have(CHESS)
    run = await remembering.run()
    assert (await run.recall(MemoryQuery(text="parse invoices from scanned paper"), task="")).items == []
    assert texts(await run.recall(MemoryQuery(text="play chess in a browser"), task="")) == [CHESS.text]


async def test_without_vectors_words_are_searched_and_it_is_told(remembering: Remembering) -> None:
    """Also what is written meanwhile is kept, and indexed once vectors are back."""
    await remembering.have(CSV)
    remembering.vectors.fails = "They are away."
    run = await remembering.run()
    found = await run.recall(MemoryQuery(text="reading CSV files"), task="T1")
    assert (texts(found), found.missed) == ([CSV.text], "They are away.")
    assert found.items[0].why == "1st by words"
    written = await run.keep([CHESS])
    assert (len(written.stored), written.unindexed) == (1, "They are away.")
    remembering.vectors.fails = ""
    assert await remembering.memories.index(OWN) == 1
    assert await remembering.memories.index(OWN) == 0


async def test_vectors_that_were_lost_are_made_again(remembering: Remembering) -> None:
    """Rows know where their vectors are: those of another place count as missing."""
    await remembering.have(CSV, CHESS)
    await remembering.vectors.clear(OWN)
    run = await remembering.run()
    assert (await run.keep([GO])).unindexed == ""
    assert len(await remembering.vectors.search(OWN, "csv", limit=9)) == 3


async def test_hold_out_recalls_nothing(remembering: Remembering) -> None:
    """And notes that nobody saw anything."""
    await remembering.have(CSV)
    remembering.memories.options = MemoryOptions(holdout=1.0)
    run = await remembering.run()
    found = await run.recall(MemoryQuery(text="reading CSV files"), task="T1")
    assert (found.items, found.held_out) == ((), True)
    assert await remembering.count("memory_recalls") == 0


# --- writing ---------------------------------------------------------------------------------


async def test_the_same_delivery_twice_writes_once(remembering: Remembering) -> None:
    """At the same time too; secrets are masked before."""
    run = await remembering.run()
    secret = MemoryDraft(kind="debugging", text="The token ghp_0123456789abcdefABCDEF0123456789abcd leaked.")
    both = await asyncio.gather(*(run.keep([CSV, CHESS, secret]) for _ in range(4)))
    assert sorted(len(w.stored) for w in both) == [0, 0, 0, 3]
    assert {w.masked for w in both} == {1}
    async with transaction(remembering.database) as connection:
        kept = await rows.page(connection, OWN)
    assert "The token [secret] leaked." in [i.text for i in kept]


@pytest.mark.parametrize("options", [MemoryOptions(max_items=2), MemoryOptions(max_bytes=100)])
async def test_limits_hold_for_runs_and_people(remembering: Remembering, options: MemoryOptions) -> None:
    """A run keeps what fits and says so; what a person brings is taken whole or not at all."""
    remembering.memories.options = options
    run = await remembering.run()
    written = await run.keep([CSV, CHESS, GO])
    assert (len(written.stored), "full" in written.refused) == (2, True)
    with pytest.raises(QuotaReached, match="full"):
        async with remembering.work() as work:
            await remembering.memories.bring(work, [GO])
    assert await remembering.count("memories") == 2


# --- credit ----------------------------------------------------------------------------------


def outcome(*first_try: bool) -> ProjectOutcome:
    """Return how the tasks of a project went."""
    tasks = [TaskOutcome(task=f"T{n}", first_try=good) for n, good in enumerate(first_try, 1)]
    return ProjectOutcome(tasks=tasks, calls=7, cost_usd=None)


async def test_credit_goes_to_what_the_tasks_saw_and_once(remembering: Remembering) -> None:
    """Seen by a task that went well: a credit; by one that did not: a debit; twice settled: once."""
    csv, chess = await remembering.have(CSV, CHESS)
    run = await remembering.run()
    await run.recall(MemoryQuery(text="reading CSV files", kinds=["snippet"]), task="T1")
    await run.recall(MemoryQuery(text="reading CSV files", kinds=["snippet"]), task="T1")
    await run.recall(MemoryQuery(text="a game of chess", kinds=["pattern"]), task="T2")
    assert await run.settle(outcome(True, False))
    assert not await run.settle(outcome(True, True))
    async with transaction(remembering.database) as connection:
        after = await rows.these(connection, OWN, [csv, chess])
        measured = await memory_outcomes.measured(connection, OWN)
    assert [(after[i].helped, after[i].failed) for i in (csv, chess)] == [(1, 0), (0, 1)]
    assert after[csv].recalled_at is not None
    assert [(m.first_try, m.tasks, m.calls, m.held_out) for m in measured] == [(1, 2, 7, False)]


async def test_what_never_helps_sinks_expires_and_goes(remembering: Remembering) -> None:
    """After four projects it has a date; one success takes it away; past the date row and vector go."""
    (csv,) = await remembering.have(CSV)

    async def used(well: bool) -> None:
        run = await remembering.run()
        await run.recall(MemoryQuery(text="reading CSV files"), task="T1")
        await run.settle(outcome(well))

    for _ in range(3):
        await used(False)
    async with transaction(remembering.database) as connection:
        assert (await rows.get(connection, OWN, csv)).expires_at is None
    await used(False)
    async with transaction(remembering.database) as connection:
        sinking = await rows.get(connection, OWN, csv)
    assert sinking.expires_at is not None
    assert sinking.usefulness == 0.5
    for _ in range(2):
        await used(True)
    async with transaction(remembering.database) as connection:
        assert (await rows.get(connection, OWN, csv)).expires_at is None
        await connection.execute(text("UPDATE memories SET expires_at = now() - interval '1 second'"))
    run = await remembering.run()
    assert (await run.recall(MemoryQuery(text="reading CSV files"), task="T1")).items == []
    assert await remembering.memories.expire(OWN) == [csv]
    assert await remembering.vectors.search(OWN, "csv", limit=9) == []
    assert await remembering.count("memories") == 0


async def test_a_pinned_one_does_not_expire(remembering: Remembering) -> None:
    """Whatever came of it."""
    (csv,) = await remembering.have(CSV)
    async with remembering.work() as work:
        await remembering.memories.change(work, csv, {"pinned": True})
    async with transaction(remembering.database) as connection:
        await connection.execute(text("UPDATE memories SET expires_at = now() - interval '1 second'"))
    run = await remembering.run()
    assert texts(await run.recall(MemoryQuery(text="reading CSV files"), task="T1")) == [CSV.text]
    assert await remembering.memories.expire(OWN) == []


# --- people ----------------------------------------------------------------------------------


async def test_forgetting_takes_text_vector_and_quotes(remembering: Remembering) -> None:
    """Also where vectors cannot be reached: then it says so, and nothing is found by what is left."""
    csv, chess = await remembering.have(CSV, CHESS)
    project = new_project()
    async with transaction(remembering.database) as connection:
        await projects.add(connection, project)
    artifacts = ArtifactRows(remembering.database, project.id)

    async def quoted(item_id: UUID, words: str) -> str:
        item = Recalled(id=item_id, kind="snippet", text=words, origin="own", why="1st by words")
        return await artifacts.put(Recall(asked=f"sha256:{item_id.hex}", agent="code", items=[item]))

    gone, kept = await quoted(csv, CSV.text), await quoted(chess, CHESS.text)
    async with remembering.work() as work:
        forgotten = await remembering.memories.forget(work, csv)
    assert (forgotten.ids, forgotten.unremoved) == ([csv], "")
    assert [i for i, _ in await remembering.vectors.search(OWN, "csv", limit=9)] == [chess]
    with pytest.raises(NotFound):
        await artifacts.get(gone, Recall)
    assert (await artifacts.get(kept, Recall)).items[0].id == chess

    remembering.vectors.fails = "They are away."
    async with remembering.work() as work:
        assert (await remembering.memories.forget(work, chess)).unremoved == "They are away."
    remembering.vectors.fails = ""
    async with remembering.work() as work:
        assert (await remembering.memories.search(work, MemoryQuery(text="a game of chess"))).hits == []
        with pytest.raises(NotFound):
            await remembering.memories.forget(work, chess)


async def test_what_is_forgotten_while_it_is_indexed_does_not_come_back(remembering: Remembering) -> None:
    """Its vector is taken away again."""
    async with transaction(remembering.database) as connection:
        (csv,) = (await remembering.memories.store(connection, OWN, [CSV])).stored
    put = remembering.vectors.put

    async def forgetting(organisation_id: UUID, given: Any) -> str:
        place = await put(organisation_id, given)
        async with transaction(remembering.database) as connection:
            await rows.remove(connection, OWN, [csv])
        return place

    remembering.vectors.put = forgetting  # type: ignore[method-assign]
    assert await remembering.memories.index(OWN) == 0
    assert await remembering.vectors.search(OWN, "csv", limit=9) == []


async def test_a_correction_is_found_by_what_it_says_now(remembering: Remembering) -> None:
    """By words and meaning; not beside another of the same text, nor over somebody else's change."""
    csv, _ = await remembering.have(CSV, GO)
    async with remembering.work() as work:
        changed = await remembering.memories.change(
            work, csv, {"text": "Bees make honey. Ask ada@engine.uk."}, version=1
        )
    assert (changed.text, changed.version) == ("Bees make honey. Ask [personal].", 2)
    async with remembering.work() as work:
        found = await remembering.memories.search(work, MemoryQuery(text="honey of bees"))
        assert "by meaning" in found.hits[0].why
        assert "by words" in found.hits[0].why
        with pytest.raises(VersionConflict):
            await remembering.memories.change(work, csv, {"pinned": True}, version=1)
        with pytest.raises(AlreadyThere):
            await remembering.memories.change(work, csv, {"text": GO.text})


async def test_a_rebuild_makes_all_vectors_and_fails_where_they_cannot_be(remembering: Remembering) -> None:
    """It counts, and is noted."""
    await remembering.have(CSV, CHESS)
    async with remembering.work() as work:
        made = await remembering.memories.rebuild(work)
    assert (made.items, made.embedder) == (2, "hashed-1")
    assert len(await remembering.vectors.search(OWN, "csv", limit=9)) == 2
    remembering.vectors.fails = "They are away."
    assert await remembering.memories.standing() == "They are away."
    with pytest.raises(MemoryUnavailable):
        async with remembering.work() as work:
            await remembering.memories.rebuild(work)


async def test_organisations_share_nothing(remembering: Remembering) -> None:
    """Neither by id, search, list nor digest."""
    (csv,) = await remembering.have(CSV)
    other = uuid4()
    async with transaction(remembering.database) as connection:
        await connection.execute(
            text("INSERT INTO organisations (id, name) VALUES (:id, 'other')"), {"id": other}
        )
    memories = remembering.memories
    async with remembering.work(other) as work:
        assert (await memories.page(work, cursor="", limit=10))[0] == []
        assert (await memories.search(work, MemoryQuery(text=CSV.text))).hits == []
        with pytest.raises(NotFound):
            await memories.get(work, csv)
        assert len((await memories.bring(work, [CSV])).stored) == 1
    assert await remembering.count("memories") == 2


async def test_every_query_keeps_to_its_organisation(remembering: Remembering) -> None:
    """Runs read without the database's own row rules: each query holds to the organisation it is given."""
    (csv,) = await remembering.have(CSV)
    other, query = uuid4(), MemoryQuery(text=CSV.text)
    async with transaction(remembering.database) as connection:
        assert await rows.by_words(connection, OWN, query, limit=9) == [csv]
        assert list(await rows.these(connection, OWN, [csv], query)) == [csv]
        assert await rows.has_any(connection, OWN)
        assert await rows.by_words(connection, other, query, limit=9) == []
        assert await rows.these(connection, other, [csv], query) == {}
        assert not await rows.has_any(connection, other)
        assert await rows.amount(connection, other) == (0, 0)
        assert await rows.page(connection, other, cursor="", limit=9) == []
        assert await rows.unplaced(connection, other, "elsewhere", after=None, limit=9) == {}
        assert await rows.set_place(connection, other, {csv: CSV.text}, "elsewhere") == []
        assert await rows.remove(connection, other, [csv]) == []
        with pytest.raises(NotFound):
            await rows.get(connection, other, csv)
        with pytest.raises(NotFound):
            await rows.change(connection, other, csv, {"pinned": True}, version=None)
        assert list(await rows.these(connection, OWN, [csv])) == [csv]


async def test_nothing_of_what_is_forgotten_is_left(remembering: Remembering, tmp_path: Path) -> None:
    """No table and no file of Chroma's holds its words, and no search finds its vector."""
    marker = "zyzzyva"
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path / "vectors")
    memories = Memories(remembering.database, vectors)
    draft = MemoryDraft(kind="snippet", text=f"Read {marker} files with care.", language="python")
    async with remembering.work() as work:
        (made,) = (await memories.bring(work, [draft, CHESS])).stored[:1]
    project = new_project()
    async with transaction(remembering.database) as connection:
        await projects.add(connection, project)
    item = Recalled(id=made, kind="snippet", text=draft.text, origin="own", why="1st by words")
    await ArtifactRows(remembering.database, project.id).put(
        Recall(asked=f"sha256:{made.hex}", agent="code", items=[item])
    )
    assert await holding(remembering.database, marker) == {"artifacts", "memories"}
    assert files_with(tmp_path, str(made).encode()), "the index is in these files"

    async with remembering.work() as work:
        assert (await memories.forget(work, made)).unremoved == ""
    assert await holding(remembering.database, marker) == set()
    assert made not in [i for i, _ in await vectors.search(OWN, draft.text, limit=9)]
    await vectors.close()
    assert files_with(tmp_path, marker.encode()) == set()
    assert files_with(tmp_path, str(made).encode()) == set()


async def test_a_corrected_texts_former_vector_is_in_no_file(
    remembering: Remembering, tmp_path: Path
) -> None:
    """What was corrected may be what nobody should have written down."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path / "vectors")
    memories = Memories(remembering.database, vectors)
    async with remembering.work() as work:
        made, other = (await memories.bring(work, [CSV, CHESS])).stored
    numbers = struct.pack("<384f", *HashedEmbedder().embed([CSV.text + " " + " ".join(CSV.tags)])[0])
    assert files_with(tmp_path, numbers)
    async with remembering.work() as work:
        await memories.change(work, made, {"text": "Bees make honey.", "tags": []})
    assert files_with(tmp_path, numbers) == set()
    near = [i for i, _ in await vectors.search(OWN, "honey of bees", limit=9)]
    assert near == [made, other]
    await vectors.close()


async def holding(database: AsyncEngine, word: str) -> set[str]:
    """Return the tables with a row that holds a word."""
    named = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    async with transaction(database) as connection:
        tables = (await connection.execute(text(named))).scalars().all()
        asked = {t: text(f'SELECT count(*) FROM "{t}" AS row WHERE row::text ILIKE :word') for t in tables}
        counts = {
            t: (await connection.execute(q, {"word": f"%{word}%"})).scalar_one() for t, q in asked.items()
        }
    return {table for table, count in counts.items() if count}


def files_with(folder: Path, part: bytes) -> set[str]:
    """Return the names of the files that hold some bytes."""
    return {p.name for p in folder.rglob("*") if p.is_file() and part in p.read_bytes()}
