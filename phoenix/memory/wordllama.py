"""The static embedder of the `wordllama` package: a vector for each token, and their mean for a text.

The package brings 16 MB of weights and a tokenizer in its wheel. Only these two files are used. Its code is
not imported: it configures the root logger, and it downloads what it does not find.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phoenix.domain.cleaning import clean_text
from phoenix.errors import MemoryUnavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = Path("weights", "l2_supercat_256.safetensors")
TOKENIZER = Path("tokenizers", "l2_supercat_tokenizer_config.json")
TENSOR = "embedding.weight"
MAX_CHARS = 20_000
"""Of a text; what comes after it adds little to a mean."""


def package_folder() -> Path | None:
    """Return where the package lies; None where it is not installed, or lacks one of its files."""
    spec = find_spec("wordllama")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if all((Path(place) / name).is_file() for name in (WEIGHTS, TOKENIZER)):
            return Path(place)
    return None


def is_there() -> bool:
    """Tell whether the package is installed with its weights."""
    return package_folder() is not None


class WordLlamaEmbedder:
    """Port `Embedder`. Reads the package's files when it is first used."""

    name = "wordllama-l2-256"
    dimensions = 256
    least_similarity = 0.3
    words_weight = 0.25

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        import numpy

        tokenizer, table = self._files
        vectors = []
        for text in texts:
            ids = tokenizer.encode(clean_text(text[:MAX_CHARS]), add_special_tokens=False).ids
            mean = table[ids].astype(numpy.float32).mean(axis=0) if ids else numpy.zeros(self.dimensions)
            length = float(numpy.linalg.norm(mean))
            if length == 0:
                # A text without tokens still needs a direction: cosine has none for zero.
                mean[0] = length = 1.0
            vectors.append([float(x) for x in mean / length])
        return vectors

    @cached_property
    def _files(self) -> tuple[Any, NDArray[Any]]:
        folder = package_folder()
        if folder is None:
            raise MemoryUnavailable(
                "The package wordllama is not installed.",
                hint="pip install wordllama, or set PHOENIX_EMBEDDER=hashed.",
            )
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            return tokenizer, _table(folder / WEIGHTS)
        except Exception as error:  # the tokenizer's reader raises nothing narrower
            raise MemoryUnavailable(f"The files of wordllama cannot be read: {error}") from error


def _table(path: Path) -> NDArray[Any]:
    """Return the matrix of a safetensors file (tokens, dimensions), mapped and not read.

    The format: eight bytes of the header's length, the header as JSON, then the numbers.
    """
    import numpy

    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        about = json.loads(file.read(size))[TENSOR]
    rows, columns = about["shape"]
    if about["dtype"] != "F16" or columns != WordLlamaEmbedder.dimensions:
        raise ValueError(f"{path.name} holds {about['dtype']} of {columns} columns")
    start = 8 + size + about["data_offsets"][0]
    return numpy.memmap(path, dtype="<f2", mode="r", offset=start, shape=(rows, columns))
