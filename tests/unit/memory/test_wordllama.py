"""WordLlama's files as its package lays them out, small ones written here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy
import pytest
from pydantic import SecretStr
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from phoenix.errors import MemoryUnavailable, SettingInvalid
from phoenix.memory import wordllama
from phoenix.memory.choice import choose_embedder
from phoenix.settings import Settings

WORDS = ["unknown", "red", "green", "both"]


def write_table(path: Path, *, kind: str = "F16", columns: int = 256) -> None:
    """Write a safetensors file in which each word points along an axis, and the last along two."""
    table = numpy.zeros((len(WORDS), columns), dtype="<f2")
    table[1, 1] = table[2, 2] = table[3, 1] = table[3, 2] = 3.0
    about = {"dtype": kind, "shape": list(table.shape), "data_offsets": [0, table.nbytes]}
    header = json.dumps({wordllama.TENSOR: about}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + table.tobytes())


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an installed package whose code must not run."""
    folder = tmp_path / "wordllama"
    for name in (wordllama.WEIGHTS, wordllama.TOKENIZER):
        (folder / name).parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    write_table(folder / wordllama.WEIGHTS)
    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="unknown"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_truncation(1)
    tokenizer.save(str(folder / wordllama.TOKENIZER))
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_text_is_the_mean_of_its_tokens(package: Path) -> None:
    """All of them count, and none is added; the package's code does not run."""
    red_green, both, nothing = wordllama.WordLlamaEmbedder().embed(["red green", "both", ""])
    assert red_green == pytest.approx(both)
    assert red_green[1:3] == pytest.approx([0.5**0.5, 0.5**0.5])
    assert nothing == [1.0] + [0.0] * 255
    assert "wordllama" not in sys.modules


def test_it_is_chosen_where_it_is_installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless another one is wanted, or OpenAI's key is set."""
    monkeypatch.setattr("phoenix.memory.minilm.is_there", lambda: False)
    assert choose_embedder(Settings()).name == "wordllama-l2-256"
    assert choose_embedder(Settings(embedder="hashed")).name == "hashed-1"
    with_key = Settings(OPENAI_API_KEY=SecretStr("key"))
    assert choose_embedder(with_key).name.startswith("openai")


def test_a_package_without_its_weights_is_none(package: Path) -> None:
    """It is not chosen by itself; who asks for it is told."""
    (package / wordllama.WEIGHTS).unlink()
    assert not wordllama.is_there()
    with pytest.raises(SettingInvalid, match="wordllama"):
        choose_embedder(Settings(embedder="wordllama"))
    with pytest.raises(MemoryUnavailable, match="not installed"):
        wordllama.WordLlamaEmbedder().embed(["red"])


@pytest.mark.parametrize("spoilt", ["kind", "columns", "cut", "tokenizer"])
def test_files_that_cannot_be_read_are_told(package: Path, spoilt: str) -> None:
    """A new version of the package degrades memory; it does not end runs, and gives no wrong vectors."""
    weights = package / wordllama.WEIGHTS
    if spoilt == "kind":
        write_table(weights, kind="F32")
    elif spoilt == "columns":
        write_table(weights, columns=64)
    elif spoilt == "cut":
        weights.write_bytes(weights.read_bytes()[:500])
    else:
        (package / wordllama.TOKENIZER).write_text("{}")
    with pytest.raises(MemoryUnavailable, match="cannot be read"):
        wordllama.WordLlamaEmbedder().embed(["red"])
