"""Spans to a collector, in OpenTelemetry's own form and protocol (OTLP over HTTP, protobuf).

The exporter of the OpenTelemetry SDK does the same for spans of the SDK, and takes about nine times as long
for each (docs/decisions/0036).
"""

from __future__ import annotations

import gzip
import os
import ssl
from collections.abc import Mapping, Sequence

import httpx
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.util.re import parse_env_headers

from phoenix.errors import SettingInvalid
from phoenix.telemetry.spans import Attribute, Span

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 5.0
_KINDS = {
    "request": trace_pb2.Span.SPAN_KIND_SERVER,
    "model": trace_pb2.Span.SPAN_KIND_CLIENT,
    "sql": trace_pb2.Span.SPAN_KIND_CLIENT,
}
_ERROR = trace_pb2.Status.STATUS_CODE_ERROR
_SAMPLED = 1
_KNOWS_PARENT = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_FAR_PARENT = _KNOWS_PARENT | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


class OtlpSender:
    """Sends spans to an endpoint.

    What else can be set has OpenTelemetry's own variables, `OTEL_EXPORTER_OTLP_*` and
    `OTEL_EXPORTER_OTLP_TRACES_*`: HEADERS, CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY and COMPRESSION; and
    `OTEL_RESOURCE_ATTRIBUTES`.

    Args:
        endpoint: The collector's base URL, such as http://collector:4318; empty takes OpenTelemetry's own
            variables.
        version: Of Phoenix.
        instance: Names this process.
    """

    def __init__(self, endpoint: str, *, version: str, instance: str) -> None:
        self._url = _endpoint(endpoint)
        about = {"service.version": version, "service.instance.id": instance}
        # OTEL_SERVICE_NAME goes before.
        name = os.environ.get("OTEL_SERVICE_NAME", "phoenix")
        found = Resource.create(about | {"service.name": name}).attributes
        self._resource = ResourceMessage()
        for key, value in found.items():
            _say(
                self._resource.attributes.add(key=key).value,
                value if isinstance(value, Attribute) else str(value),
            )
        self._version = version
        self._is_packed = _variable("COMPRESSION") == "gzip"
        headers = {
            **parse_env_headers(_variable("HEADERS"), liberal=True),
            "content-type": "application/x-protobuf",
            **({"content-encoding": "gzip"} if self._is_packed else {}),
        }
        self._client = httpx.Client(headers=headers, timeout=TIMEOUT_SECONDS, verify=_trust())

    def send(self, spans: Sequence[Span]) -> bool:
        """Send spans; tell whether the collector took them."""
        body = self.encoded(spans)
        try:
            answer = self._client.post(self._url, content=gzip.compress(body) if self._is_packed else body)
        except httpx.HTTPError as error:
            log.warning("collector_unreachable", error=type(error).__name__)
            return False
        if not answer.is_success:
            log.warning("collector_refused", status=answer.status_code)
            return False
        _tell_rejected(answer.content)
        return True

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def encoded(self, spans: Sequence[Span]) -> bytes:
        """Return an `ExportTraceServiceRequest` with spans, serialised."""
        request = ExportTraceServiceRequest()
        of_resource = request.resource_spans.add(resource=self._resource)
        scope = of_resource.scope_spans.add()
        scope.scope.name, scope.scope.version = "phoenix", self._version
        for span in spans:
            _add(scope, span)
        encoded: bytes = request.SerializeToString()
        return encoded


def _add(scope: trace_pb2.ScopeSpans, span: Span) -> None:
    added = scope.spans.add(
        trace_id=bytes.fromhex(span.trace),
        span_id=bytes.fromhex(span.id),
        parent_span_id=bytes.fromhex(span.parent),
        name=span.name,
        kind=_KINDS.get(span.kind, trace_pb2.Span.SPAN_KIND_INTERNAL),
        start_time_unix_nano=span.began,
        end_time_unix_nano=span.ended,
        flags=_SAMPLED | (_FAR_PARENT if span.parent else _KNOWS_PARENT),
    )
    put = added.attributes.add
    put(key="phoenix.kind").value.string_value = span.kind
    for key, value in span.attributes.items():
        _say(put(key=key).value, value)
    if span.status != "ok":
        put(key="phoenix.status").value.string_value = span.status
        added.status.code, added.status.message = _ERROR, span.status


def _say(said: AnyValue, value: Attribute) -> None:
    # A bool is an int too, so it is asked for first.
    if isinstance(value, str):
        said.string_value = value
    elif isinstance(value, bool):
        said.bool_value = value
    elif isinstance(value, int):
        said.int_value = value
    else:
        said.double_value = value


def _tell_rejected(body: bytes) -> None:
    """Log what a collector that took a request says it did not take of it."""
    if not body:
        return
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        # Not every collector answers in the form that it was asked in; what it took, it took.
        return
    if partial.rejected_spans:
        log.warning("spans_rejected", count=partial.rejected_spans, reason=partial.error_message)


def _endpoint(base: str) -> str:
    """Return where spans go: a variable for traces is taken as it is, a collector's base gets its path."""
    if base:
        return f"{base.rstrip('/')}/v1/traces"
    whole = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    return whole or f"{os.environ.get('OTEL_EXPORTER_OTLP_ENDPOINT', '').rstrip('/')}/v1/traces"


def _variable(name: str, among: Mapping[str, str] = os.environ) -> str:
    """Return one of OpenTelemetry's settings of an exporter: that of traces, or else that of all."""
    return among.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or among.get(f"OTEL_EXPORTER_OTLP_{name}", "")


def _trust() -> ssl.SSLContext:
    """Return whom to trust, and who this is."""
    try:
        context = ssl.create_default_context(cafile=_variable("CERTIFICATE") or None)
        if certificate := _variable("CLIENT_CERTIFICATE"):
            context.load_cert_chain(certificate, _variable("CLIENT_KEY") or None)
    except OSError as error:
        names = "OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY"
        raise SettingInvalid(
            f"A certificate for the collector of traces cannot be used: {error}.",
            field="OTEL_EXPORTER_OTLP_CERTIFICATE",
            hint=f"Let {names} name readable PEM files that belong together.",
        ) from error
    return context
