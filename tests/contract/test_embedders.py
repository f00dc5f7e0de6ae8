"""Port `Embedder`, over every embedder that this machine has."""

from __future__ import annotations

import base64
import json
import math
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest

from phoenix.errors import MemoryUnavailable
from phoenix.memory import minilm, wordllama
from phoenix.memory.hashing import HashedEmbedder
from phoenix.memory.openai import MODEL, OpenAIEmbedder
from phoenix.ports_memory import Embedder


class Server(BaseHTTPRequestHandler):
    """Answers as OpenAI does; its vectors are hashed, out of order, and not of length 1."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer key":
            self.send_error(401)
            return
        vectors = HashedEmbedder().embed(asked["input"])
        padded = [[3 * x for x in v] + [0.0] * (asked["dimensions"] - len(v)) for v in vectors]
        data: list[dict[str, object]] = []
        for n, vector in enumerate(padded):
            packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            said = packed if asked.get("encoding_format") == "base64" else vector
            data.append({"object": "embedding", "index": n, "embedding": said})
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        answer = {"object": "list", "model": asked["model"], "data": data[::-1], "usage": usage}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Return where embeddings are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["hashed", "openai", "minilm", "wordllama"])
def embedder(request: pytest.FixtureRequest, address: str) -> Embedder:
    """Return each kind of embedder."""
    if request.param == "openai":
        return OpenAIEmbedder("key", url=address)
    if request.param == "minilm":
        if not minilm.is_there():
            pytest.skip(f"the model's files are not in {minilm.model_folder()}")
        return minilm.MiniLMEmbedder()
    if request.param == "wordllama":
        if not wordllama.is_there():
            pytest.skip("the package wordllama is not installed")
        return wordllama.WordLlamaEmbedder()
    return HashedEmbedder()


TEXTS = [
    "Import bank transactions from CSV files",
    "importing transactions of a bank out of a CSV file",
    "A game of chess in the terminal",
]


def cosine(one: list[float], other: list[float]) -> float:
    """Return the cosine of the angle between two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_have_the_length_and_dimensions_that_are_told(embedder: Embedder) -> None:
    """Also those of a text that says nothing."""
    for vector in embedder.embed([*TEXTS, "", "!?", "\ud800"]):
        assert len(vector) == embedder.dimensions
        assert math.isclose(math.hypot(*vector), 1.0, rel_tol=1e-4)


def test_what_is_alike_is_nearer(embedder: Embedder) -> None:
    """The same thing in other words is nearer than another thing, and above the floor."""
    one, same, other = embedder.embed(TEXTS)
    assert cosine(one, same) > embedder.least_similarity > cosine(one, other)


def test_the_same_text_has_the_same_vector(embedder: Embedder) -> None:
    """Alone or among others, in any order."""
    together = embedder.embed(TEXTS)
    (alone,) = embedder.embed([TEXTS[1]])
    assert cosine(together[1], alone) > 0.9999
    assert embedder.embed([]) == []


def test_openais_own_client_gets_the_same_vectors(address: str) -> None:
    """What the adapter asks and reads is what OpenAI's client asks and reads, but for lengths and order."""
    embedder = OpenAIEmbedder("key", url=address)
    with openai.OpenAI(api_key="key", base_url=address) as client:
        answer = client.embeddings.create(model=MODEL, input=TEXTS, dimensions=embedder.dimensions)
    assert answer.model == MODEL
    theirs = [one.embedding for one in sorted(answer.data, key=lambda one: one.index)]
    for own, other in zip(embedder.embed(TEXTS), theirs, strict=True):
        assert math.hypot(*other) == pytest.approx(3.0, rel=1e-4)
        assert own == pytest.approx([x / 3 for x in other], abs=1e-5)


def test_a_refused_key_says_so_without_the_key(address: str) -> None:
    """Whoever reads the message learns the status."""
    with pytest.raises(MemoryUnavailable, match="401") as raised:
        OpenAIEmbedder("wrong-key", url=address).embed(["x"])
    assert "wrong-key" not in str(raised.value)


def test_a_server_that_is_away_is_told(address: str) -> None:
    """Not as an error of a library."""
    with pytest.raises(MemoryUnavailable, match="ConnectError"):
        OpenAIEmbedder("key", url="http://127.0.0.1:9").embed(["x"])


def test_minilm_never_downloads(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its files it fails at once and names their folder."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(MemoryUnavailable, match="all-MiniLM-L6-v2"):
        minilm.MiniLMEmbedder().embed(["x"])
