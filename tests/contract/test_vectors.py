"""Port `Vectors`: in memory, Chroma in a folder, and a Chroma server."""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import chromadb
import httpx
import pytest
from chromadb.config import Settings as ChromaSettings

from phoenix.errors import MemoryUnavailable
from phoenix.memory.chroma import ChromaVectors
from phoenix.memory.hashing import HashedEmbedder
from phoenix.memory.in_memory import MemoryVectors
from phoenix.ports_memory import Vectors

OWN, OTHER = UUID(int=1), UUID(int=2)
CSV, CHESS = uuid4(), uuid4()
TEXTS = {CSV: "Import bank transactions from CSV files.", CHESS: "A game of chess in the terminal."}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a Chroma server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).parent / "chroma"),
        "run",
        "--path",
        str(tmp_path_factory.mktemp("chroma")),
    ]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGKILL)
    process.wait()


async def _answering(url: str) -> None:
    """Return once a server answers."""
    async with asyncio.timeout(30), httpx.AsyncClient() as client:
        while True:
            try:
                if (await client.get(f"{url}/api/v2/heartbeat")).is_success:
                    return
            except httpx.ConnectError:
                await asyncio.sleep(0.05)


@pytest.fixture(params=["memory", "folder", "server"])
async def vectors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Vectors]:
    """Return each kind of index, empty."""
    made: Vectors
    if request.param == "memory":
        made = MemoryVectors()
    elif request.param == "folder":
        made = ChromaVectors(HashedEmbedder(), folder=tmp_path / "vectors")
    else:
        url = request.getfixturevalue("server")
        await _answering(url)
        made = ChromaVectors(HashedEmbedder(), url=url, rest_seconds=0)
        await made.clear(OWN)
    yield made
    await made.close()


async def test_the_nearest_comes_first_and_only_of_ones_own(vectors: Vectors) -> None:
    """With its similarity, of the organisation that asks; an empty index has nothing."""
    assert await vectors.search(OWN, "csv", limit=5) == []
    place = await vectors.put(OWN, TEXTS)
    assert place == await vectors.place(OWN) != await vectors.place(OTHER)
    found = await vectors.search(OWN, "importing a CSV of bank transactions", limit=5)
    assert [i for i, _ in found] == [CSV, CHESS]
    assert 1.0001 > found[0][1] > 0.5 > found[1][1] > -1.0001
    assert len(await vectors.search(OWN, "csv", limit=1)) == 1
    assert await vectors.search(OTHER, "csv", limit=5) == []


async def test_what_is_put_again_or_removed_is_there_once_or_not(vectors: Vectors) -> None:
    """Both may be repeated, as after a crash."""
    await vectors.put(OWN, TEXTS)
    await vectors.put(OWN, {CSV: "Play chess against the computer."})
    assert sorted(i for i, _ in await vectors.search(OWN, "chess", limit=9)) == sorted(TEXTS)
    for _ in range(2):
        await vectors.remove(OWN, [CSV, uuid4()])
    assert [i for i, _ in await vectors.search(OWN, "chess", limit=9)] == [CHESS]
    await vectors.remove(OWN, [])


async def test_a_cleared_index_is_empty_and_another_one(vectors: Vectors) -> None:
    """So that whoever noted where vectors are knows that they are gone; others keep theirs."""
    before = await vectors.put(OWN, TEXTS)
    await vectors.put(OTHER, TEXTS)
    for _ in range(2):
        await vectors.clear(OWN)
    assert await vectors.search(OWN, "chess", limit=9) == []
    assert await vectors.place(OWN) != before
    assert len(await vectors.search(OTHER, "chess", limit=9)) == len(TEXTS)


# --- what only Chroma can have happen --------------------------------------------------------


def harm(folder: Path) -> None:
    """Cut off every file of an index."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != "lock"]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:10])


async def test_an_index_that_cannot_be_read_is_told_and_made_anew(tmp_path: Path) -> None:
    """Another process that has the old one open goes over to the new one."""
    one = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    other = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    before = await one.put(OWN, TEXTS)
    assert len(await other.search(OWN, "chess", limit=9)) == len(TEXTS)
    harm(tmp_path)
    with pytest.raises(MemoryUnavailable, match="Chroma fails"):
        await one.search(OWN, "chess", limit=9)
    await one.clear(OWN)
    assert await one.put(OWN, TEXTS) != before
    assert len(await one.search(OWN, "chess", limit=9)) == len(TEXTS)
    assert len(await other.search(OWN, "chess", limit=9)) == len(TEXTS)
    await one.close()
    await other.close()


async def test_another_process_goes_over_to_a_collection_that_was_made_anew(tmp_path: Path) -> None:
    """A rebuild replaces it under whoever has it open."""
    one = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    other = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    await one.put(OWN, {CSV: TEXTS[CSV]})
    assert [i for i, _ in await other.search(OWN, "chess", limit=9)] == [CSV]
    await one.clear(OWN)
    await one.put(OWN, {CHESS: TEXTS[CHESS]})
    assert [i for i, _ in await other.search(OWN, "chess", limit=9)] == [CHESS]
    await one.close()
    await other.close()


async def test_after_a_failure_nothing_is_tried_for_a_while(tmp_path: Path) -> None:
    """Runs do not wait for what is away; a rebuild tries all the same."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=3600)
    await vectors.put(OWN, TEXTS)
    harm(tmp_path)
    with pytest.raises(MemoryUnavailable, match="file is not a database"):
        await vectors.search(OWN, "chess", limit=9)
    good = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    await good.clear(OWN)
    with pytest.raises(MemoryUnavailable, match="file is not a database"):
        await vectors.search(OWN, "chess", limit=9)
    await vectors.clear(OWN)
    assert await vectors.search(OWN, "chess", limit=9) == []
    await good.close()
    await vectors.close()


async def test_a_server_that_hangs_is_left_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread may never come back; the caller does."""
    monkeypatch.setattr("phoenix.memory.chroma.CALL_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        vectors = ChromaVectors(HashedEmbedder(), url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(20):
            with pytest.raises(MemoryUnavailable, match="did not answer within"):
                await vectors.search(OWN, "chess", limit=1)
        await vectors.close()


HOLDER = """
import fcntl, sys
held = open(sys.argv[1], "ab")
fcntl.flock(held, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_process_that_holds_the_index_is_waited_for_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process at a time; when the holder dies, the next one goes on."""
    monkeypatch.setattr("phoenix.memory.chroma.LOCK_SECONDS", 0.2)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(tmp_path / "lock"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    with pytest.raises(MemoryUnavailable, match="Another process"):
        await vectors.place(OWN)
    process.kill()
    await process.wait()
    assert await vectors.place(OWN)
    await vectors.close()


async def test_texts_never_reach_the_index(tmp_path: Path) -> None:
    """Forgetting a text has to take away one copy only."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    await vectors.put(OWN, {CSV: "zebracrossing zebracrossing"})
    await vectors.close()
    assert not any(b"zebra" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def holds(folder: Path, text: str) -> list[str]:
    """Return the files that have the numbers of a text's vector."""
    wanted = struct.pack(f"<{HashedEmbedder.dimensions}f", *HashedEmbedder().embed([text])[0])
    part = wanted[256:512]
    assert any(part)
    return [p.name for p in folder.rglob("*") if p.is_file() and part in p.read_bytes()]


@pytest.mark.parametrize("others", [3, 1200])
async def test_a_removed_vector_is_in_no_file(tmp_path: Path, others: int) -> None:
    """Neither in the log, where few are, nor in the graph, where Chroma writes after a thousand."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    watching = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    more = {uuid4(): uuid4().hex for _ in range(others)}
    before = await vectors.put(OWN, TEXTS | more)
    await vectors.put(OTHER, {CHESS: TEXTS[CHESS]})
    assert len(await watching.search(OWN, "chess", limit=2)) == 2
    assert holds(tmp_path, TEXTS[CSV]) == ["chroma.sqlite3" if others == 3 else "data_level0.bin"]
    moved = await vectors.remove(OWN, [CSV])
    assert (moved.before, moved.after) == (before, await vectors.place(OWN))
    assert holds(tmp_path, TEXTS[CSV]) == []
    assert str(CSV).encode() not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for each in (vectors, watching):
        assert (await each.search(OWN, "chess", limit=1))[0][0] == CHESS
        assert CSV not in [i for i, _ in await each.search(OWN, TEXTS[CSV], limit=2000)]
        assert [i for i, _ in await each.search(OTHER, "chess", limit=9)] == [CHESS]
        await each.close()
    assert holds(tmp_path, TEXTS[CSV]) == []
    client = chromadb.PersistentClient(tmp_path / "1", settings=ChromaSettings(anonymized_telemetry=False))
    assert sorted(c.count() for c in client.list_collections()) == [1, others + 1]
    client.close()  # type: ignore[attr-defined]


async def test_cleared_vectors_are_in_no_file(tmp_path: Path) -> None:
    """A rebuild leaves nothing of what was there before, in a folder that Chroma no longer names either."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    await vectors.put(OWN, TEXTS | {uuid4(): uuid4().hex for _ in range(1200)})
    assert holds(tmp_path, TEXTS[CSV])
    await vectors.clear(OWN)
    assert holds(tmp_path, TEXTS[CSV]) == []
    await vectors.close()


async def test_what_a_crash_left_is_tidied_when_the_folder_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends between the removal and the tidying leaves a mark."""
    vectors = ChromaVectors(HashedEmbedder(), folder=tmp_path, rest_seconds=0)
    await vectors.put(OWN, TEXTS | {uuid4(): uuid4().hex for _ in range(1200)})

    def crash(folder: Path) -> None:
        raise OSError(f"the process ended at {folder}")

    with monkeypatch.context() as patch:
        patch.setattr("phoenix.memory.chroma.tidy", crash)
        with pytest.raises(MemoryUnavailable, match="the process ended"):
            await vectors.remove(OWN, [CSV])
        await vectors.close()
    assert holds(tmp_path, TEXTS[CSV])
    again = ChromaVectors(HashedEmbedder(), folder=tmp_path)
    assert CSV not in [i for i, _ in await again.search(OWN, "csv", limit=2000)]
    assert holds(tmp_path, TEXTS[CSV]) == []
    await again.close()
