"""What goes to a collector: OTLP as its own library reads it, and what OpenTelemetry's variables change."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2
from structlog.testing import capture_logs

from phoenix.errors import SettingInvalid
from phoenix.telemetry.otlp import OtlpSender
from phoenix.telemetry.spans import Span

TRACE, PARENT, ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


@dataclass
class Collector:
    """What a collector was asked, and how it answers."""

    url: str = ""
    status: int = 200
    answer: bytes = b""
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def collector() -> Iterator[Collector]:
    seen = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen.paths.append(self.path)
            seen.headers.append({name.lower(): value for name, value in self.headers.items()})
            seen.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(seen.status)
            self.send_header("Content-Length", str(len(seen.answer)))
            self.end_headers()
            self.wfile.write(seen.answer)

        def log_message(self, *_: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield seen
        server.shutdown()


def _sent(url: str, *spans: Span) -> bool:
    with closing(OtlpSender(url, version="9.8", instance="host:1")) as sender:
        return sender.send(spans)


def _step(**changes: object) -> Span:
    span = Span(TRACE, ID, PARENT, "step", "build/T1", 1_000_000_001, 2_000_000_002, "ok")
    span.attributes = {"phoenix.step": "build", "n": 3, "share": 0.5, "phoenix.cached": True}
    for name, value in changes.items():
        setattr(span, name, value)
    return span


def test_a_span_is_sent_as_opentelemetry_has_it(collector: Collector) -> None:
    failed = _step(kind="model", status="failed", id="00f067aa0ba902b8", parent="")
    assert _sent(f"{collector.url}/", _step(), failed)
    assert collector.paths == ["/v1/traces"]
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    [of_resource] = ExportTraceServiceRequest.FromString(collector.bodies[0]).resource_spans
    resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
    assert resource["service.name"] == "phoenix"
    assert resource["service.version"] == "9.8"
    assert resource["service.instance.id"] == "host:1"
    [scope] = of_resource.scope_spans
    assert scope.scope.name == "phoenix"
    step, model = scope.spans
    assert (step.trace_id.hex(), step.span_id.hex(), step.parent_span_id.hex()) == (TRACE, ID, PARENT)
    assert (step.name, step.start_time_unix_nano, step.end_time_unix_nano) == (
        "build/T1",
        1_000_000_001,
        2_000_000_002,
    )
    said = {pair.key: pair.value for pair in step.attributes}
    assert said["phoenix.kind"].string_value == "step"
    assert said["n"].int_value == 3
    assert said["share"].double_value == 0.5
    assert said["phoenix.cached"].WhichOneof("value") == "bool_value"
    assert step.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert step.kind == trace_pb2.Span.SPAN_KIND_INTERNAL
    assert model.kind == trace_pb2.Span.SPAN_KIND_CLIENT
    assert model.parent_span_id == b""
    assert (model.status.code, model.status.message) == (trace_pb2.Status.STATUS_CODE_ERROR, "failed")


@pytest.mark.parametrize("of", ["OTEL_EXPORTER_OTLP", "OTEL_EXPORTER_OTLP_TRACES"])
def test_the_variables_of_opentelemetry_are_read(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    base, path = (
        (collector.url, "/v1/traces") if of == "OTEL_EXPORTER_OTLP" else (f"{collector.url}/in", "/in")
    )
    monkeypatch.setenv(f"{of}_ENDPOINT", base)
    monkeypatch.setenv(f"{of}_HEADERS", "Authorization=Bearer%20key,x-tenant=a")
    monkeypatch.setenv(f"{of}_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "ours")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=staging")
    assert _sent("", _step())
    assert collector.paths == [path]
    assert collector.headers[0]["authorization"] == "Bearer key"
    assert collector.headers[0]["x-tenant"] == "a"
    assert collector.headers[0]["content-encoding"] == "gzip"
    request = ExportTraceServiceRequest.FromString(gzip.decompress(collector.bodies[0]))
    resource = {p.key: p.value.string_value for p in request.resource_spans[0].resource.attributes}
    assert resource["service.name"] == "ours"
    assert resource["deployment.environment"] == "staging"


def test_what_was_not_taken_is_kept_by_the_caller_and_said(collector: Collector) -> None:
    collector.status = 503
    with capture_logs() as logs:
        assert not _sent(collector.url, _step())
    assert logs[0]["event"] == "collector_refused"
    assert logs[0]["status"] == 503
    with capture_logs() as logs:
        assert not _sent("http://127.0.0.1:1", _step())
    assert logs[0]["event"] == "collector_unreachable"


@pytest.mark.parametrize("is_telling", [True, False])
def test_a_collector_that_takes_a_part_is_heard(collector: Collector, is_telling: bool) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
    said = ExportTraceServiceResponse(partial_success=partial).SerializeToString()
    collector.answer = said if is_telling else b"OK\xff"
    with capture_logs() as logs:
        assert _sent(collector.url, _step())
    expected = [("spans_rejected", 2, "too old")] if is_telling else []
    assert [(log["event"], log["count"], log["reason"]) for log in logs] == expected


def test_a_certificate_that_cannot_be_read_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem")
    with pytest.raises(SettingInvalid, match="OTEL_EXPORTER_OTLP_CERTIFICATE"):
        _sent("https://collector:4318", _step())
