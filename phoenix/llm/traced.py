"""Calls of models as spans, by OpenTelemetry's conventions for generative AI; what is asked stays out."""

from __future__ import annotations

from phoenix.domain.run import ModelCall
from phoenix.ports import Caller
from phoenix.telemetry import tracing
from phoenix.telemetry.spans import Attribute

PROVIDERS = {
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""Where the conventions call a provider otherwise than models' names do."""


def answered(call: ModelCall, finish: str) -> None:
    """Record an answered call."""
    said = _said(call.model, call.agent, call.task)
    said["gen_ai.usage.input_tokens"] = call.input_tokens
    said["gen_ai.usage.output_tokens"] = call.output_tokens
    if call.cached_tokens:
        said["gen_ai.usage.cache_read.input_tokens"] = call.cached_tokens
    if finish:
        said["gen_ai.response.finish_reasons"] = finish
    if call.cost_usd is not None:
        said["phoenix.cost.usd"] = float(call.cost_usd)
    for name, is_so in (("recorded", call.recorded), ("cached", call.cached)):
        if is_so:
            said[f"phoenix.{name}"] = True
    tracing.told("model", f"chat {said['gen_ai.request.model']}", call.seconds, attributes=said)


def failed(model: str, caller: Caller, seconds: float, error: BaseException) -> None:
    """Record a call that was not answered."""
    said = _said(model, caller.agent, caller.task)
    cause = getattr(error, "error", error)
    said["error.type"] = str(getattr(cause, "code", "") or type(cause).__name__)
    name = f"chat {said['gen_ai.request.model']}"
    tracing.told("model", name, seconds, status="failed", attributes=said)


def _said(model: str, agent: str, task: str) -> dict[str, Attribute]:
    provider, _, name = model.partition(":")
    said: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDERS.get(provider, provider),
        # A recording's name is a path.
        "gen_ai.request.model": provider if provider == "recorded" or not name else name,
        "gen_ai.agent.name": agent,
    }
    return said | ({"phoenix.task": task} if task else {})
