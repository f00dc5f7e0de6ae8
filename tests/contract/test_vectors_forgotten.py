"""What an embedded Chroma's files hold of a vector that was removed: nothing."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import numpy
import pytest

from phoenix.memory.chroma import ChromaVectors

OWN, OTHER = UUID(int=1), UUID(int=2)
WITHIN = 1e-5
"""Chroma makes vectors the length 1 again, which changes their last bits."""
LONGEST_RUN = 3
"""Numbers in a row that chance may bring; eight of them are 32 bytes."""
SIZES = (20, 150, 1050)


class Dense:
    """Port `Embedder`: a direction for each text, none of whose numbers is zero."""

    name = "dense-test"
    dimensions = 384
    least_similarity = 0.5
    words_weight = 1.0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        vectors = []
        for text in texts:
            chance = random.Random(text)
            vector = numpy.array([chance.gauss(0, 1) for _ in range(self.dimensions)])
            vectors.append([float(x) for x in vector / numpy.linalg.norm(vector)])
        return vectors


def runs(folder: Path, text: str) -> dict[str, int]:
    """Return, by file, how many numbers of a text's vector stand in a row there, at any offset."""
    wanted = numpy.array(Dense().embed([text])[0], numpy.float32)
    order = numpy.argsort(wanted)
    found: dict[str, int] = {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        longest = max(_longest(data[start:], wanted, order) for start in range(4))
        if longest > LONGEST_RUN:
            found[path.name] = max(longest, found.get(path.name, 0))
    return found


def _longest(data: bytes, wanted: numpy.ndarray, order: numpy.ndarray) -> int:
    numbers = numpy.nan_to_num(numpy.frombuffer(data, "<f4", len(data) // 4))
    ranked = wanted[order]
    above = numpy.clip(numpy.searchsorted(ranked, numbers), 1, len(ranked) - 1)
    is_lower = numpy.abs(numbers - ranked[above - 1]) < numpy.abs(numbers - ranked[above])
    place = order[above - is_lower]
    is_near = numpy.abs(numbers - wanted[place]) <= WITHIN * numpy.abs(wanted[place])
    # In a row: near, and one place further in the vector than the number before.
    follows = is_near[1:] & is_near[:-1] & (numpy.diff(place) == 1)
    breaks = numpy.flatnonzero(numpy.concatenate(([True], ~follows, [True])))
    return int(numpy.diff(breaks).max()) if is_near.any() else 0


async def removed(folder: Path, size: int) -> tuple[list[dict[str, int]], dict[str, int]]:
    """Remove one of so many vectors, and go on writing; return what files hold of it after, and before."""
    one, watching = ChromaVectors(Dense(), folder=folder), ChromaVectors(Dense(), folder=folder)
    secret, texts = uuid4(), {uuid4(): uuid4().hex for _ in range(size)}
    text = uuid4().hex
    await one.put(OWN, {secret: text} | texts)
    await one.put(OTHER, {uuid4(): uuid4().hex})
    assert (await watching.search(OWN, text, limit=1))[0][0] == secret
    before = runs(folder, text)
    await one.remove(OWN, [secret])
    after = [runs(folder, text)]
    for each in (watching, one):
        # Both have had it in their memory, from where Chroma writes what it has not set.
        await each.put(UUID(int=random.getrandbits(100)), {uuid4(): uuid4().hex})
        more = {uuid4(): uuid4().hex for _ in range(40)}
        await each.put(OWN, more)
        texts |= more
        after.append(runs(folder, text))
    for each in (one, watching):
        for kept in random.sample(sorted(texts), 10):
            assert (await each.search(OWN, texts[kept], limit=1))[0][0] == kept
        assert secret not in [i for i, _ in await each.search(OWN, text, limit=50)]
        await each.close()
    return [*after, runs(folder, text)], before


@pytest.mark.parametrize("size", SIZES)
async def test_no_file_holds_a_removed_vector(tmp_path: Path, size: int) -> None:
    """Neither at once nor after more was written, by this index or another that had it in memory."""
    for trial in range(2):
        after, before = await removed(tmp_path / str(trial), size)
        assert max(before.values()) >= 256
        assert not any(after), after


FILLED = """
import asyncio, sys
from pathlib import Path
from uuid import UUID, uuid4
from phoenix.memory.chroma import ChromaVectors
from phoenix.memory.hashing import HashedEmbedder

async def main():
    vectors = ChromaVectors(HashedEmbedder(), folder=Path(sys.argv[1]))
    one = uuid4()
    await vectors.put(UUID(int=1), {one: "x"} | {uuid4(): uuid4().hex for _ in range(1100)})
    await vectors.put(UUID(int=2), {uuid4(): "y"})
    await vectors.remove(UUID(int=1), [one])
    await vectors.put(UUID(int=1), {uuid4(): uuid4().hex for _ in range(50)})
    await vectors.close()

asyncio.run(main())
"""


async def test_no_file_holds_memory_that_was_never_set(tmp_path: Path) -> None:
    """The C library fills what it hands out and what it takes back with a known byte; no file has it."""
    fill = 0xA5
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FILLED, str(tmp_path), env=os.environ | {"MALLOC_PERTURB_": str(fill)}
    )
    assert await process.wait() == 0
    graphs = list(tmp_path.rglob("data_level0.bin"))
    assert len(graphs) == 2
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        data = path.read_bytes()
        assert bytes([fill]) * 32 not in data, path
        assert bytes([fill ^ 0xFF]) * 32 not in data, path
