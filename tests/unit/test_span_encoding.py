"""What goes to the back end is what OpenTelemetry's own exporter would send."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.types import AnyValue

from millpond_core import telemetry
from millpond_core.span_encoding import encoded

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=5,
)
ATTRIBUTES = st.dictionaries(st.text(min_size=1), VALUES, max_size=5)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(TraceFlags.SAMPLED)),
    st.sampled_from([TraceState(), TraceState([("vendor", "1")])]),
)


@given(
    own=ATTRIBUTES,
    more=ATTRIBUTES,
    parent=st.none() | CONTEXTS,
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=3),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "full")]),
    event=st.booleans(),
)
@example(
    own={"a": 1}, more={"a": True, "b": 1.0}, parent=None, links=[], kind=SpanKind.SERVER, status=Status(), event=False
)
def test_spans_are_encoded_as_the_library_encodes_them(
    *,
    own: Mapping[str, AnyValue],
    more: Mapping[str, AnyValue],
    parent: SpanContext | None,
    links: list[Link],
    kind: SpanKind,
    status: Status,
    event: bool,
) -> None:
    ended = InMemorySpanExporter()
    provider = TracerProvider(span_limits=SpanLimits(max_attributes=6, max_links=2), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ended))
    tracer = provider.get_tracer("millpond")
    # The attributes of one span must not be found on the other.
    for attributes in (own, more):
        context = telemetry.in_context(NonRecordingSpan(parent)) if parent else None
        span = tracer.start_span("process ai.routed", context, kind, attributes, links)
        span.set_attributes(dict(more))
        span.set_status(status)
        if event:
            span.add_event("full", {"rows": 3})
        span.end()
    spans = ended.get_finished_spans()
    assert encoded(spans) == encode_spans(spans)
