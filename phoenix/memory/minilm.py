"""The embedder all-MiniLM-L6-v2 in ONNX, as Chroma brings it, from files that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phoenix.errors import MemoryUnavailable

FILES = (
    "config.json",
    "model.onnx",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)


def model_folder() -> Path:
    """Return where Chroma keeps the model's files."""
    return Path.home() / ".cache" / "chroma" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"


def is_there() -> bool:
    """Tell whether all files of the model are there. Nothing is downloaded."""
    return all((model_folder() / name).is_file() for name in FILES)


class MiniLMEmbedder:
    """Port `Embedder`. It never downloads: Chroma's own function would, when a file is missing."""

    name = "minilm-l6-v2"
    dimensions = 384
    least_similarity = 0.3
    words_weight = 0.25

    def __init__(self) -> None:
        self._function: Any = None

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self._function is None:
            if not is_there():
                raise MemoryUnavailable(
                    f"The files of all-MiniLM-L6-v2 are not in {model_folder()}.",
                    hint="Put them there, or set PHOENIX_EMBEDDER=hashed.",
                )
            from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

            self._function = ONNXMiniLM_L6_V2(preferred_providers=["CPUExecutionProvider"])
        return [[float(x) for x in vector] for vector in self._function(list(texts))]
