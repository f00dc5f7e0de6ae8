"""An embedder that needs no model: hashed words, pairs of words and parts of words."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

DIMENSIONS = 384
PAIR_WEIGHT, PART_WEIGHT = 0.25, 0.35
PART_CHARS = 4
LONGEST_WORD = 40

_WORDS = re.compile(r"[^\W_]+")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ENDINGS = ("ations", "ation", "ingly", "ings", "ing", "ies", "ied", "ers", "er", "ed", "es", "ly", "s")
_LEAST_STEM = 3
_STOP_WORDS = """
a an and are as at be but by can do each every for from has have how i if in into is it its me my no not of
on one only or our per so some than that the their them then there these they this to up was what when where
which while who will with without you your
"""
_STOP = frozenset(_STOP_WORDS.split())


class HashedEmbedder:
    """Port `Embedder` by signed feature hashing (Weinberger et al., 2009); the same text, the same vector."""

    name = "hashed-1"
    dimensions = DIMENSIONS
    least_similarity = 0.18
    words_weight = 1.0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [_vector(text) for text in texts]


def _vector(text: str) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for (feature, weight), count in Counter(_features(text)).items():
        place, sign = _place(feature)
        vector[place] += sign * weight * (1 + math.log(count))
    length = math.sqrt(sum(x * x for x in vector))
    if length == 0:
        # A text without words still needs a direction: cosine has none for zero.
        vector[0] = length = 1.0
    return [x / length for x in vector]


def _features(text: str) -> Iterator[tuple[str, float]]:
    words = [stem(word) for word in words_of(text)]
    for word in words:
        yield f"w {word}", 1.0
        padded = f"^{word}$"
        for start in range(len(padded) - PART_CHARS + 1):
            yield f"p {padded[start : start + PART_CHARS]}", PART_WEIGHT
    for one, other in pairwise(words):
        yield f"b {one} {other}", PAIR_WEIGHT


def words_of(text: str) -> list[str]:
    """Return the words of a text that say something, names of code taken apart, in small letters."""
    found = _WORDS.findall(_HUMPS.sub(" ", text))
    return [word[:LONGEST_WORD] for word in map(str.lower, found) if word not in _STOP]


def stem(word: str) -> str:
    """Return a word without a common English ending."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=200_000)
def _place(feature: str) -> tuple[int, float]:
    number = int.from_bytes(
        hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "big"
    )
    return number % DIMENSIONS, 1.0 if number >> 63 else -1.0
