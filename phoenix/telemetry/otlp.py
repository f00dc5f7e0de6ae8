"""Spans to a collector, in OpenTelemetry's own form and protocol (OTLP over HTTP)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from phoenix.telemetry.spans import Span

TIMEOUT_SECONDS = 5.0
_KINDS = {"request": SpanKind.SERVER, "model": SpanKind.CLIENT, "sql": SpanKind.CLIENT}
_FLAGS = TraceFlags(TraceFlags.SAMPLED)


class OtlpSender:
    """Sends spans to an endpoint. What else can be set (headers, certificates) is `OTEL_EXPORTER_OTLP_*`.

    Args:
        endpoint: The collector's base URL, such as http://collector:4318; empty takes OpenTelemetry's own
            variables.
        version: Of Phoenix.
        instance: Names this process.
    """

    def __init__(self, endpoint: str, *, version: str, instance: str) -> None:
        url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
        self._exporter = OTLPSpanExporter(url, timeout=TIMEOUT_SECONDS)
        about = {"service.version": version, "service.instance.id": instance}
        # OTEL_SERVICE_NAME goes before.
        name = os.environ.get("OTEL_SERVICE_NAME", "phoenix")
        self._resource = Resource.create(about | {"service.name": name})
        self._scope = InstrumentationScope("phoenix", version)

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; tell whether the collector took them."""
        found = self._exporter.export([self._readable(span) for span in spans])
        return found is SpanExportResult.SUCCESS

    def close(self) -> None:
        """Let go of the connection."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _readable(self, span: Span) -> ReadableSpan:
        trace = int(span.trace, 16)
        parent = None
        if span.parent:
            parent = SpanContext(trace, int(span.parent, 16), is_remote=True, trace_flags=_FLAGS)
        is_ok = span.status == "ok"
        attributes = {"phoenix.kind": span.kind, **span.attributes}
        if not is_ok:
            attributes["phoenix.status"] = span.status
        return ReadableSpan(
            name=span.name,
            context=SpanContext(trace, int(span.id, 16), is_remote=False, trace_flags=_FLAGS),
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=_KINDS.get(span.kind, SpanKind.INTERNAL),
            status=Status(StatusCode.UNSET) if is_ok else Status(StatusCode.ERROR, span.status),
            start_time=span.began,
            end_time=span.ended,
            instrumentation_scope=self._scope,
        )
