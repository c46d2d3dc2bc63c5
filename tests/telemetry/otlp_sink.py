"""A collector for tests: takes OTLP over HTTP on a free port and keeps the spans.

with OtlpSink() as sink:
    …send to sink.url…
    spans = sink.wait_for(3)
"""

import contextlib
import gzip
import http.server
import threading

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support import PATIENCE


class OtlpSink:
    def __init__(self, *, hangs=False):
        self._arrived = threading.Condition()
        self._released = threading.Event()
        if not hangs:
            self._released.set()
        self._spans = []
        self.connected = threading.Event()
        self.paths = []
        self.bodies = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._released.set()
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()

    def release(self):
        """Answer from here on."""
        self._released.set()

    def wait_for(self, count, seconds=PATIENCE):
        """Return the spans once `count` of them are there."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self._spans) >= count, seconds), f"{len(self._spans)} of {count}"
            return list(self._spans)

    def trace(self, trace_id, seconds=PATIENCE):
        """Return the spans of a trace once its SERVER span, which ends last, is there."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: self._of(trace_id, kind="server"), seconds)
            assert arrived, f"no SERVER span of {trace_id} among {len(self._spans)} spans"
            return self._of(trace_id)

    def _of(self, trace_id, **facts):
        wanted = {"trace_id": trace_id, **facts}.items()
        return [span for span in self._spans if wanted <= {key: span[key] for key in ("trace_id", "kind")}.items()]

    def _take(self, path, body):
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        with self._arrived:
            self.paths.append(path)
            self.bodies.append(body)
            for resource in request.resource_spans:
                labels = _plain(resource.resource.attributes)
                self._spans += [_span(span, labels) for scope in resource.scope_spans for span in scope.spans]
            self._arrived.notify_all()

    def _handler(sink):  # noqa: N805  # `self` is the handler's
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                sink.connected.set()
                sink._released.wait(30)
                sink._take(self.path, body)
                answer = ExportTraceServiceResponse().SerializeToString()
                with contextlib.suppress(OSError):  # whoever asked has given up
                    self.send_response(200)
                    self.send_header("content-type", "application/x-protobuf")
                    self.send_header("content-length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Handler


def _plain(attributes):
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value):
    kind = value.WhichOneof("value")
    return [_value(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def _span(span, resource):
    return {
        "name": span.name,
        "kind": Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "attributes": _plain(span.attributes),
        "events": [(event.name, _plain(event.attributes)) for event in span.events],
        "status": span.status.code,
        "resource": resource,
    }
