"""A collector of traces that nobody here wrote the messages of: OpenTelemetry's own, over OTLP/HTTP.

`traces.py listen FILE` prints its port and keeps in FILE what comes; `traces.py check FILE` says whether it is what the other scenarios did.
"""

import http.server
import sys
import time

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

PATIENCE_S = 30
STEPS = {
    "throttle", "identify", "admit", "read", "wait", "validate",
    "transaction", "authorize", "handle", "audit", "commit",
}


def listen(path):
    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            request = ExportTraceServiceRequest.FromString(body)
            known = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            with open(path, "ab") as kept:
                size = request.ByteSize() if known else 0
                kept.write(size.to_bytes(4, "big") + request.SerializeToString()[:size])
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def kept(path):
    """All messages so far, with nothing in them that these descriptors do not know."""
    with open(path, "rb") as file:
        data = file.read()
    while data:
        size = int.from_bytes(data[:4], "big")
        assert size > 0, "a message at another path, or of another type"
        message = ExportTraceServiceRequest.FromString(data[4 : 4 + size])
        before = message.ByteSize()
        message.DiscardUnknownFields()
        assert message.ByteSize() == before, "a field that OTLP does not have"
        yield message
        data = data[4 + size :]


def value(attribute):
    return getattr(attribute.value, attribute.value.WhichOneof("value"))


def check(path):
    resources = [resource for message in kept(path) for resource in message.resource_spans]
    for resource in resources:
        attributes = {attribute.key: value(attribute) for attribute in resource.resource.attributes}
        assert attributes["service.name"] == "sys-server", attributes
        assert {"service.version", "service.instance.id"} <= attributes.keys(), attributes
        assert resource.schema_url.startswith("https://opentelemetry.io/schemas/"), resource.schema_url
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    assert len(by_id) == len(spans), "two spans have one id"
    calls = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    for span in spans:
        assert len(span.trace_id) == 16 and any(span.trace_id) and len(span.span_id) == 8 and any(span.span_id)
        assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano < time.time_ns() + 10**9
        if span.kind == Span.SPAN_KIND_INTERNAL and span.parent_span_id:
            parent = by_id[(span.trace_id, span.parent_span_id)]
            assert parent.start_time_unix_nano <= span.start_time_unix_nano, (parent, span)
            assert span.end_time_unix_nano <= parent.end_time_unix_nano, (parent, span)
            assert span.name in STEPS or parent.name not in {call.name for call in calls}, span.name
    assert not any(call.parent_span_id or call.links for call in calls), "nobody said that he traces"
    outcomes = {}
    for call in calls:
        said = {attribute.key: value(attribute) for attribute in call.attributes}
        assert said["rpc.method"] == call.name, said
        assert call.status.code == Status.STATUS_CODE_UNSET, call
        key = (call.name, said["rpc.system.name"], said.get("sys.refusal.reason", "OK"))
        outcomes[key] = outcomes.get(key, 0) + 1
    wanted = {
        ("sys.account.v1.AuthService/Login", "grpc", "OK"),
        ("sys.account.v1.AuthService/Login", "connectrpc", "OK"),
        ("notes.v1.NoteService/ListNotes", "grpc", "OK"),
        ("notes.v1.NoteService/ListNotes", "connectrpc", "OK"),
        ("sys.account.v1.AuthService/Logout", "grpc", "OK"),
    }
    assert wanted <= outcomes.keys(), (wanted - outcomes.keys(), outcomes)
    assert any(reason != "OK" for _, _, reason in outcomes), outcomes


if __name__ == "__main__":
    _, what, path = sys.argv
    if what == "listen":
        listen(path)
    until = time.monotonic() + PATIENCE_S
    while True:
        # The last message comes within a second or two.
        try:
            check(path)
            break
        except (AssertionError, KeyError, FileNotFoundError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
