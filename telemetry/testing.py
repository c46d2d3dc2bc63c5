"""An observer for tests that remembers everything and touches nothing global.

`observer, recorder = recording_observer(label_sets=…)`: hand the observer to the code under test, ask the recorder.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.samples import Sample

from telemetry.catalogue import LabelSets, LogEvent, Metric
from telemetry.export import without_exception_text
from telemetry.instruments import Instruments
from telemetry.logs import recording_logger
from telemetry.observe import Observer, Span
from telemetry.tracing import sampler


class SeededIds(IdGenerator):
    """Trace and span ids drawn from a seed: the same run has the same ids."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # repeatable on purpose

    def generate_trace_id(self) -> int:
        """Return 128 bits, never 0."""
        return self._random.getrandbits(128) or 1

    def generate_span_id(self) -> int:
        """Return 64 bits, never 0."""
        return self._random.getrandbits(64) or 1


class Recorder(SpanProcessor):
    """What an observer was told."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self._open: dict[int, str] = {}
        self.spans: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        self.emitted: set[Metric | LogEvent] = set()

    def on_start(self, span: SdkSpan, parent_context: Any = None) -> None:  # noqa: ARG002  # the SDK's signature
        """Remember that `span` is open."""
        self._open[span.get_span_context().span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        """Keep `span` as a plain dict."""
        told = _plain(without_exception_text(span))
        self._open.pop(int(told["span_id"], 16), None)
        self.spans.append(told)

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the finished spans called `name`, in the order in which they ended."""
        return [span for span in self.spans if span["name"] == name]

    def span(self, name: str) -> dict[str, Any]:
        """Return the one finished span called `name`."""
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} spans {name!r} among {[span['name'] for span in self.spans]}"  # noqa: S101
        return found[0]

    def logged(self, event: LogEvent) -> list[dict[str, Any]]:
        """Return the lines of `event`."""
        return [line for line in self.logs if line["event"] == event.name]

    def value(self, metric: Metric, *labels: str) -> float:
        """Return a metric's value; of a histogram the number of observations.

        With fewer labels than the row has, or "" in the place of one, the sum over what is left open.
        """
        samples = self._samples(metric, "_count" if metric.kind == "histogram" else "")
        return _sum(samples, metric, labels)

    def total(self, histogram: Metric, *labels: str) -> float:
        """Return the sum of what a histogram observed, under the same rules as `value`."""
        return _sum(self._samples(histogram, "_sum"), histogram, labels)

    def examples(self) -> set[str]:
        """Return the traces that histograms have kept as exemplars."""
        samples = [sample for family in self._instruments.registry.collect() for sample in family.samples]
        return {sample.exemplar.labels["trace_id"] for sample in samples if sample.exemplar}

    def assert_no_open_span(self) -> None:
        """Fail if a span was started and not ended."""
        assert not self._open, f"spans left open: {sorted(self._open.values())}"  # noqa: S101

    def _samples(self, metric: Metric, suffix: str) -> list[Sample]:
        name = metric.name + suffix
        return [
            sample
            for family in self._instruments.registry.restricted_registry([name]).collect()
            for sample in family.samples
        ]


class RecordingObserver(Observer):
    """An observer that also notes which rows it was given."""

    def __init__(self, provider: TracerProvider, instruments: Instruments, recorder: Recorder) -> None:
        super().__init__(provider, instruments, recording_logger(recorder.logs))
        self._recorder = recorder

    def inc(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        """Note the row."""
        self._recorder.emitted.add(metric)
        super().inc(metric, *labels, by=by)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Note the row."""
        self._recorder.emitted.add(metric)
        super().add(metric, amount, *labels)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Note the row."""
        self._recorder.emitted.add(metric)
        super().set(metric, value, *labels)

    def record(self, metric: Metric, value: float, *labels: str, span: Span | None = None) -> None:
        """Note the row."""
        self._recorder.emitted.add(metric)
        super().record(metric, value, *labels, span=span)

    def log(self, event: LogEvent, **fields: Any) -> None:
        """Note the row."""
        self._recorder.emitted.add(event)
        super().log(event, **fields)


def recording_observer(
    label_sets: LabelSets | None = None, *, seed: int = 0, sample_ratio: float = 1.0
) -> tuple[RecordingObserver, Recorder]:
    """Return a fresh observer and what it will have been told.

    Args:
        label_sets: the configured label values; a value outside every set raises UnknownLabelError.
        seed: for trace and span ids.
        sample_ratio: share of traces whose spans the recorder is told of, 0 to 1.
    """
    instruments = Instruments(label_sets or EXAMPLE_LABELS)
    recorder = Recorder(instruments)
    provider = TracerProvider(
        sampler=sampler(sample_ratio),
        id_generator=SeededIds(seed),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(recorder)
    return RecordingObserver(provider, instruments, recorder), recorder


EXAMPLE_LABELS = LabelSets(
    endpoints=(("/chat/stream", "POST"), ("/v1/chat/completions", "POST"), ("/jobs", "POST"), ("/healthz", "GET")),
    models=("sim", "smollm2"),
    providers=("simulated", "local"),
    provider_models=(("simulated", "sim"), ("local", "smollm2")),
    resources=("requests", "model:simulated", "model:local", "retrieval", "rerank", "jobs"),
    tenants=("demo", "acme"),
    tools=("case_lookup", "policy_lookup", "open_escalation_review"),
    kinds=("document_ingestion", "evaluation", "report", "chat"),
    evaluators=("citation", "grounding"),
)


def _sum(samples: list[Sample], metric: Metric, labels: tuple[str, ...]) -> float:
    wanted = {name: value for name, value in zip(metric.label_names, labels, strict=False) if value}
    return sum(float(sample.value) for sample in samples if wanted.items() <= sample.labels.items())


def _plain(span: ReadableSpan) -> dict[str, Any]:
    own, parent = span.get_span_context(), span.parent
    assert own is not None  # noqa: S101  # a span that ended has a context
    attributes: Mapping[str, Any] = span.attributes or {}
    events: Sequence[Any] = span.events
    return {
        "name": span.name,
        "kind": span.kind.name.lower(),
        "trace_id": format_trace_id(own.trace_id),
        "span_id": format_span_id(own.span_id),
        "parent": format_span_id(parent.span_id) if parent else "",
        "attributes": dict(attributes),
        "status": span.status.status_code.name,
        "events": [(event.name, dict(event.attributes or {})) for event in events],
        "links": [format_trace_id(link.context.trace_id) for link in span.links],
    }
