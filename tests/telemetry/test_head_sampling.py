"""A request that nobody will see goes past the instrumentation: nothing but the cost is different."""

import asyncio
import contextlib

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation import fastapi as fastapi_instrumentation
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context
from opentelemetry.util.http import parse_excluded_urls

from telemetry.head_sampling import HeadSampler
from telemetry.server import NATIVE_TELEMETRY_OFF, instrument
from telemetry.testing import SeededIds, recording_observer
from telemetry.tracing import sampler

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-"


async def nobody(_scope):
    return False


def application(observer, **options):
    """Two routes: one that says what it would tell a provider, one that fails."""
    app = FastAPI(telemetry=NATIVE_TELEMETRY_OFF)
    app.state.told = []

    @app.get("/chat")
    async def chat():
        app.state.told.append(observer.trace_headers())

    @app.get("/broken")
    async def broken():
        raise ValueError("a secret")

    instrument(app, observer, **options)
    return app


def call(app, *, path="/chat", headers=()):
    scope = {
        "type": "http", "http_version": "1.1", "scheme": "http", "method": "GET", "path": path, "root_path": "",
        "query_string": b"", "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 5000), "server": ("127.0.0.1", 8080),
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message):
        pass

    asyncio.run(app(scope, receive, send))


def ids_of(headers):
    """Version, trace, span and flags of a `traceparent`."""
    return headers["traceparent"].split("-")


def test_a_request_of_a_trace_that_is_not_sampled_has_ids_and_no_span():
    observer, recorder = recording_observer(sample_ratio=0.0)
    app = application(observer)
    call(app)
    call(app)
    (_, first, span, flags), (_, second, _, _) = map(ids_of, app.state.told)
    assert int(first, 16)
    assert int(span, 16)
    assert first != second
    assert not int(flags, 16) & 1
    assert recorder.spans == []


def test_so_many_requests_are_traced_as_the_ratio_says_and_each_by_one_span_of_the_trace_that_was_drawn():
    observer, recorder = recording_observer(sample_ratio=0.3)
    app = application(observer)
    for _ in range(60):
        call(app)
    drawn = [ids_of(told)[1] for told in app.state.told]
    kept = [trace_id for trace_id in drawn if int(trace_id, 16) & (2**64 - 1) < 0.3 * 2**64]
    assert [span["trace_id"] for span in recorder.spans] == kept
    assert 0 < len(kept) < 60 == len(set(drawn))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_a_caller_who_is_believed_decides_whatever_our_own_ratio_is(ratio, sampled):
    observer, recorder = recording_observer(sample_ratio=ratio)
    app = application(observer)
    call(app, headers=[("traceparent", f"{CALLER}0{sampled:d}"), ("tracestate", "vendor=x")])
    (told,) = app.state.told
    assert ids_of(told)[1] == TRACE
    assert told["tracestate"] == "vendor=x"
    assert [span["trace_id"] for span in recorder.spans] == [TRACE] * sampled


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_tracestate_in_several_headers_is_one_and_of_several_callers_the_first_is_heard(flags):
    observer, _recorder = recording_observer()
    app = application(observer)
    other = f"00-{TRACE[::-1]}-b7ad6b7169203331-{1 - int(flags):02d}"
    given = [("traceparent", CALLER + flags), ("traceparent", other), ("tracestate", "one=1"), ("tracestate", "two=2")]
    call(app, headers=given)
    (told,) = app.state.told
    assert ids_of(told)[1] == TRACE
    assert int(ids_of(told)[3], 16) & 1 == int(flags)
    assert told["tracestate"] == "one=1,two=2"


def test_what_the_environment_excludes_for_the_library_is_traced_all_the_same(monkeypatch):
    monkeypatch.setattr(fastapi_instrumentation, "_excluded_urls_from_env", parse_excluded_urls("chat"))
    observer, recorder = recording_observer()
    call(application(observer))
    assert [span["name"] for span in recorder.spans] == ["GET /chat"]


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_stranger_decides_nothing(ratio, flags):
    observer, recorder = recording_observer(sample_ratio=ratio)
    app = application(observer, trusts=nobody)
    call(app, headers=[("traceparent", CALLER + flags)])
    assert ids_of(app.state.told[0])[1] != TRACE
    assert len(recorder.spans) == ratio


def test_a_stranger_s_span_is_hidden_behind_no_second_header():
    observer, recorder = recording_observer()
    app = application(observer, trusts=nobody)
    for headers in ([CALLER + "01", "broken"], ["broken", CALLER + "01"]):
        call(app, headers=[("traceparent", value) for value in headers])
    assert TRACE not in {ids_of(told)[1] for told in app.state.told}
    assert [span["parent"] for span in recorder.spans] == ["", ""]


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_an_exception_comes_out_as_ever_and_no_span_stays_current(ratio):
    observer, recorder = recording_observer(sample_ratio=ratio)
    app = application(observer)

    async def fail():
        with contextlib.suppress(ValueError):
            await app({"type": "http", "method": "GET", "path": "/broken", "root_path": "", "query_string": b"",
                       "headers": [], "http_version": "1.1", "scheme": "http", "server": ("h", 1)},
                      None, lambda _message: asyncio.sleep(0))  # fmt: skip
        return trace.get_current_span()

    assert asyncio.run(fail()) is trace.INVALID_SPAN
    recorder.assert_no_open_span()


PARENTS = st.none() | st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    is_remote=st.just(value=True),
    trace_flags=st.sampled_from([TraceFlags(flags) for flags in range(4)]),
    trace_state=st.sampled_from([TraceState(), TraceState([("vendor", "x")])]),
)


@given(st.integers(), PARENTS, st.floats(0, 1))
def test_what_is_made_without_the_sdk_is_what_the_sdk_makes(seed, parent, ratio):
    def provider():
        return TracerProvider(sampler=sampler(ratio), id_generator=SeededIds(seed), shutdown_on_exit=False)

    heads, plain = HeadSampler(ours := provider()), provider().get_tracer("fastapi")
    above = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
    unseen = heads.unseen(parent)
    made = unseen or ours.get_tracer("fastapi").start_span("GET /", above, SpanKind.SERVER)
    theirs = plain.start_span("GET /", above, SpanKind.SERVER)
    assert made.get_span_context() == theirs.get_span_context()
    assert made.is_recording() == theirs.is_recording() == (unseen is None)
