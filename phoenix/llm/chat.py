"""LangChain's chat model in front of the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field

from phoenix.llm.calls import ModelRequest, ToolLike
from phoenix.llm.gateway import Gateway
from phoenix.ports import Caller


class GatewayModel(BaseChatModel):
    """A caller's chat model: LangChain's interface in front of the gateway. Async only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    gateway: Gateway = Field(exclude=True, repr=False)
    caller: Caller

    @property
    def _llm_type(self) -> str:
        return "phoenix"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.gateway.name, "agent": self.caller.agent, "task": self.caller.task}

    def bind_tools(
        self, tools: Sequence[ToolLike], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools; they are kept in one form for recordings."""
        choices = kwargs | ({"tool_choice": tool_choice} if tool_choice else {})
        functions = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(phoenix_tools=functions, phoenix_choices=choices)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("Phoenix calls models with ainvoke only.")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        tools = kwargs.pop("phoenix_tools", ())
        choices = kwargs.pop("phoenix_choices", {})
        request = ModelRequest(self.caller, messages, tools=tools, choices=choices, options=kwargs, stop=stop)
        message = await self.gateway.call(request)
        return ChatResult(generations=[ChatGeneration(message=message)])
