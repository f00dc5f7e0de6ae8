"""Which embedder and which index are used."""

from __future__ import annotations

from phoenix.errors import SettingInvalid
from phoenix.memory import minilm, wordllama
from phoenix.memory.chroma import ChromaVectors
from phoenix.memory.hashing import HashedEmbedder
from phoenix.memory.minilm import MiniLMEmbedder
from phoenix.memory.openai import URL, OpenAIEmbedder
from phoenix.memory.wordllama import WordLlamaEmbedder
from phoenix.ports_memory import Embedder
from phoenix.settings import Settings


def choose_embedder(settings: Settings) -> Embedder:
    """Return the embedder that is set; else OpenAI's, MiniLM or WordLlama where they are there, or hashing.

    OpenAI's needs its key; one for another base URL chooses nothing by itself, since such servers often
    have no embeddings.

    Raises:
        SettingInvalid: what it needs is missing.
    """
    wanted, key = settings.embedder, settings.openai_api_key
    if wanted == "openai" or (wanted == "auto" and key is not None and not settings.openai_base_url):
        if key is None:
            raise SettingInvalid("The embedder openai needs OPENAI_API_KEY.", field="PHOENIX_EMBEDDER")
        return OpenAIEmbedder(key.get_secret_value(), url=settings.openai_base_url or URL)
    if wanted == "minilm" and not minilm.is_there():
        raise SettingInvalid(
            f"The files of all-MiniLM-L6-v2 are not in {minilm.model_folder()}.", field="PHOENIX_EMBEDDER"
        )
    if wanted == "minilm" or (wanted == "auto" and minilm.is_there()):
        return MiniLMEmbedder()
    if wanted == "wordllama" and not wordllama.is_there():
        raise SettingInvalid(
            "The embedder wordllama needs its package.",
            field="PHOENIX_EMBEDDER",
            hint="pip install wordllama",
        )
    if wanted == "wordllama" or (wanted == "auto" and wordllama.is_there()):
        return WordLlamaEmbedder()
    return HashedEmbedder()


def open_vectors(settings: Settings) -> ChromaVectors:
    """Return the index; nothing is imported or opened before it is used.

    Raises:
        SettingInvalid: see `choose_embedder`.
    """
    embedder = choose_embedder(settings)
    if settings.chroma_url:
        return ChromaVectors(embedder, url=settings.chroma_url)
    return ChromaVectors(embedder, folder=settings.home / "vectors")
