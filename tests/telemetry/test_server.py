import asyncio

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from starlette.responses import StreamingResponse

from telemetry.catalogue import Attr
from telemetry.server import NATIVE_TELEMETRY_OFF, instrument
from telemetry.testing import recording_observer

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARENT_TRACE = "0af7651916cd43dd8448eb211c80319c"


async def nobody(_scope):
    return False


async def everybody(_scope):
    return True


def application(observer, **options):
    app = FastAPI(telemetry=NATIVE_TELEMETRY_OFF)

    @app.post("/chat/stream")
    async def chat(q: str = ""):
        async def chunks():
            for number in range(50):
                yield f"{q}{number}"

        return StreamingResponse(chunks())

    @app.get("/healthz")
    @app.get("/readyz")
    @app.get("/metrics")
    @app.get("/metrics/more")
    async def operational():
        return {}

    @app.get("/broken")
    async def broken():
        raise ValueError("a secret")

    @app.get("/headers")
    async def headers():
        return observer.trace_headers()

    instrument(app, observer, **options)
    return app


def call(app, method, path, *, query=b"", headers=()):
    """Drive one request through the ASGI interface; return the messages that were sent."""
    sent = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"forebay.test"), *((name.encode(), value.encode()) for name, value in headers)],
        "client": ("127.0.0.1", 5000),
        "server": ("127.0.0.1", 8080),
    }

    arriving = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if arriving:
            return arriving.pop()
        return await asyncio.Future()  # the client stays

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def body(sent):
    return b"".join(message.get("body", b"") for message in sent)


def test_a_stream_of_fifty_chunks_has_exactly_one_server_span():
    observer, recorder = recording_observer()
    sent = call(application(observer), "POST", "/chat/stream")
    assert len([message for message in sent if message["type"] == "http.response.body"]) == 51
    (span,) = recorder.spans
    assert (span["name"], span["kind"], span["status"]) == ("POST /chat/stream", "server", "UNSET")
    recorder.assert_no_open_span()


def test_the_names_of_attributes_are_the_stable_ones():
    observer, recorder = recording_observer()
    call(application(observer), "POST", "/chat/stream")
    attributes = recorder.span("POST /chat/stream")["attributes"]
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.response.status_code"] == 200
    assert attributes[Attr.HTTP_ROUTE] == "/chat/stream"
    assert not {"http.method", "http.status_code", "http.target"} & attributes.keys()


@pytest.mark.parametrize("telemetry", [NATIVE_TELEMETRY_OFF, None], ids=["off", "default"])
def test_the_framework_s_own_telemetry_adds_no_span_even_where_it_is_left_on(telemetry, monkeypatch):
    observer, recorder = recording_observer()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", observer.tracer_provider)  # a global one is what switches it on
    app = FastAPI(telemetry=telemetry)

    @app.get("/plain")
    async def plain():
        return {}

    instrument(app, observer)
    call(app, "GET", "/plain")
    assert [(span["name"], span["kind"]) for span in recorder.spans] == [("GET /plain", "server")]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_an_operational_route_has_no_span(path):
    observer, recorder = recording_observer()
    assert call(application(observer), "GET", path)[0]["status"] == 200
    assert recorder.spans == []


def test_a_route_that_only_begins_like_an_operational_one_has_its_span():
    observer, recorder = recording_observer()
    call(application(observer), "GET", "/metrics/more")
    assert recorder.span("GET /metrics/more")


def test_a_query_reaches_the_application_and_not_the_span():
    observer, recorder = recording_observer()
    sent = call(application(observer), "POST", "/chat/stream", query=b"q=confidential")
    assert body(sent).startswith(b"confidential0")
    assert "confidential" not in repr(recorder.spans)


def test_what_is_set_after_the_last_byte_is_on_the_span():
    observer, recorder = recording_observer()
    app = application(observer)

    class Direct:
        """An ASGI application as endpoint, which is what a streaming response of one's own is."""

        async def __call__(self, _scope, _receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all"})
            observer.current().set(Attr.REQUEST_OUTCOME, "completed")

    app.router.add_route("/direct", Direct(), methods=["GET"])
    call(app, "GET", "/direct")
    assert recorder.span("GET /direct")["attributes"][Attr.REQUEST_OUTCOME] == "completed"


def test_an_exception_fails_the_span_and_its_text_is_not_on_it():
    observer, recorder = recording_observer()
    with pytest.raises(ValueError, match="a secret"):
        call(application(observer), "GET", "/broken")
    span = recorder.span("GET /broken")
    assert span["status"] == "ERROR"
    assert "a secret" not in repr(span)
    recorder.assert_no_open_span()


def test_in_development_a_traceparent_is_the_parent():
    observer, recorder = recording_observer()
    call(application(observer), "POST", "/chat/stream", headers=[("traceparent", PARENT)])
    span = recorder.span("POST /chat/stream")
    assert (span["trace_id"], span["parent"]) == (PARENT_TRACE, "b7ad6b7169203331")


def test_the_traceparent_of_a_trusted_sender_is_the_parent():
    observer, recorder = recording_observer()
    call(application(observer, trusts=everybody), "POST", "/chat/stream", headers=[("traceparent", PARENT)])
    assert recorder.span("POST /chat/stream")["trace_id"] == PARENT_TRACE


@pytest.mark.parametrize("flags", ["00", "01"])
def test_the_traceparent_of_a_stranger_is_a_link_and_its_sampled_flag_decides_nothing(flags):
    observer, recorder = recording_observer()
    sent_by_them = PARENT[:-2] + flags
    call(application(observer, trusts=nobody), "POST", "/chat/stream", headers=[("traceparent", sent_by_them)])
    span = recorder.span("POST /chat/stream")
    assert span["trace_id"] != PARENT_TRACE
    assert span["parent"] == ""
    assert span["links"] == [PARENT_TRACE]


def test_a_broken_traceparent_of_a_stranger_is_no_link():
    observer, recorder = recording_observer()
    call(application(observer, trusts=nobody), "POST", "/chat/stream", headers=[("traceparent", "00-zz-zz-01")])
    assert recorder.span("POST /chat/stream")["links"] == []


def test_trust_is_asked_for_only_when_there_is_a_traceparent():
    asked = []

    async def note(scope):
        asked.append(scope["path"])
        return True

    observer, _ = recording_observer()
    app = application(observer, trusts=note)
    call(app, "POST", "/chat/stream")
    assert asked == []
    call(app, "POST", "/chat/stream", headers=[("traceparent", PARENT)])
    assert asked == ["/chat/stream"]


def test_baggage_of_a_request_is_not_passed_on():
    observer, _ = recording_observer()
    sent = call(application(observer), "GET", "/headers", headers=[("baggage", "user=alice"), ("traceparent", PARENT)])
    assert b"alice" not in body(sent)
    assert PARENT_TRACE.encode() in body(sent)


def test_nothing_global_is_set():
    observer, _ = recording_observer()
    call(application(observer), "POST", "/chat/stream")
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
