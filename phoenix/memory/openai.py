"""OpenAI's embeddings, or those of a server that speaks the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import httpx

from phoenix.domain.cleaning import clean_text
from phoenix.errors import MemoryUnavailable

MODEL = "text-embedding-3-small"
URL = "https://api.openai.com/v1"
BATCH = 256
MAX_CHARS = 20_000
"""Of a text; the model reads 8,191 tokens."""
SECONDS = 8.0


class OpenAIEmbedder:
    """Port `Embedder`. Calls are not counted against a project's budget."""

    name = f"openai-{MODEL}"
    dimensions = 512
    least_similarity = 0.25
    words_weight = 0.25

    def __init__(self, key: str, *, url: str = URL) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers={"Authorization": f"Bearer {key}"}, timeout=SECONDS
        )

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        return [v for start in range(0, len(texts), BATCH) for v in self._ask(texts[start : start + BATCH])]

    def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        asked = {
            "model": MODEL,
            "dimensions": self.dimensions,
            "input": [clean_text(t[:MAX_CHARS]) or " " for t in texts],
        }
        try:
            answer = self._http.post("/embeddings", json=asked)
            answer.raise_for_status()
            found = sorted(answer.json()["data"], key=lambda one: int(one["index"]))
            vectors = [[float(x) for x in one["embedding"]] for one in found]
        except httpx.HTTPStatusError as error:
            raise MemoryUnavailable(f"The embedder answers {error.response.status_code}.") from error
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise MemoryUnavailable(f"The embedder cannot be used: {type(error).__name__}.") from error
        if len(vectors) != len(texts) or any(len(v) != self.dimensions for v in vectors):
            raise MemoryUnavailable("The embedder answers with other vectors than were asked for.")
        return [_of_length_one(vector) for vector in vectors]


def _of_length_one(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / length for x in vector]
