"""A collector that keeps what it is sent, in OpenTelemetry's own protocol over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass
class Seen:
    """One span as it was sent."""

    trace: str
    id: str
    parent: str
    name: str
    instance: str
    """The process that sent it."""
    attributes: dict[str, Any]


@dataclass
class Receiver:
    """What came."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        """Decode a request."""
        self.bodies.append(body)
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Seen(
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            span.name,
                            resource["service.instance.id"],
                            {pair.key: pair.value.string_value for pair in span.attributes},
                        )
                    )

    def of(self, trace: str) -> dict[str, Seen]:
        """Return the spans of a trace by their ids; of one that was sent again, the last."""
        return {span.id: span for span in [*self.spans] if span.trace == trace}


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Listen on a free port of this machine."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()
