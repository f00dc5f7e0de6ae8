"""LangChain's client for OpenAI, with what its streams leave out. Importing it takes seconds."""

from __future__ import annotations

from typing import Any

from langchain_core.outputs import ChatGenerationChunk
from langchain_openai import ChatOpenAI


class RefusingChatOpenAI(ChatOpenAI):
    """Keeps the text of a refusal where it is streamed, as `ChatOpenAI` does where it is not."""

    def _convert_chunk_to_generation_chunk(
        self, chunk: dict[str, Any], default_chunk_class: type, base_generation_info: dict[str, Any] | None
    ) -> ChatGenerationChunk | None:
        found = super()._convert_chunk_to_generation_chunk(chunk, default_chunk_class, base_generation_info)
        # With a response format the choices lie deeper, and the refusal comes with the last chunk.
        choices = chunk.get("choices") or []
        refusal = (choices[0].get("delta") or {}).get("refusal") if choices else None
        if found is not None and refusal:
            found.message.additional_kwargs["refusal"] = refusal
        return found
