"""Spans as OTLP has them: the very messages of the library's own exporter, made in a third of its time.

Of a record's three spans the library's encoding took more than all else that tracing does with them: it makes two
messages for each attribute, and most attributes are the same few words, record after record. Here those are made once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode
from opentelemetry.util.types import AnyValue as AttributeValue

WORDS: Final = 4096
"""Attributes of one word that are kept, name and value: those that come again, and the latest of those that do not."""


class OtlpExporter(OTLPSpanExporter):
    """The library's, connection and retries included, but for the encoding. All spans are of one provider's tracer."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return encoded(data)


def encoded(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Equal to what the library's `encode_spans` makes of them. spans: at least one, all of one resource and tracer."""
    # The library's own for one of them: resource, tracer and schemas are those of all.
    request = encode_spans(spans[:1])
    into = request.resource_spans[0].scope_spans[0].spans
    del into[:]
    into.extend([_span(each) for each in spans])
    return request


def _span(span: ReadableSpan) -> Span:
    context, parent = span.context, span.parent
    if context is None or context.trace_state or span.events or span.status.description:
        # Millpond's own spans have none of these.
        return encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    return Span(
        trace_id=context.trace_id.to_bytes(16),
        span_id=context.span_id.to_bytes(8),
        parent_span_id=parent.span_id.to_bytes(8) if parent else b"",
        flags=_flags(parent),
        name=span.name,
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_time or 0,
        end_time_unix_nano=span.end_time or 0,
        attributes=_attributes(span.attributes),
        dropped_attributes_count=span.dropped_attributes,
        links=[_link(each) for each in span.links],
        dropped_links_count=span.dropped_links,
        status=_STATUSES[span.status.status_code],
    )


def _link(link: Link) -> Span.Link:
    return Span.Link(
        trace_id=link.context.trace_id.to_bytes(16),
        span_id=link.context.span_id.to_bytes(8),
        attributes=_attributes(link.attributes),
        dropped_attributes_count=link.dropped_attributes,
        flags=_flags(link.context),
    )


def _flags(parent: SpanContext | None) -> int:
    return _REMOTE if parent and parent.is_remote else _LOCAL


def _attributes(attributes: Mapping[str, AttributeValue] | None) -> list[KeyValue]:
    return [
        _word(name, value) if isinstance(value, str) else KeyValue(key=name, value=_value(value))
        for name, value in (attributes or {}).items()
    ]


@lru_cache(WORDS)
def _word(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


def _value(value: AttributeValue) -> AnyValue:
    match value:
        case str():
            return AnyValue(string_value=value)
        case bool():
            return AnyValue(bool_value=value)
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case bytes():
            return AnyValue(bytes_value=value)
        case _:
            return _nested(value)


def _nested(value: Sequence[AttributeValue] | Mapping[str, AttributeValue] | None) -> AnyValue:
    match value:
        case None:
            return AnyValue()
        case Mapping():
            return AnyValue(kvlist_value=KeyValueList(values=_attributes(value)))
        case _:
            return AnyValue(array_value=ArrayValue(values=[_value(each) for each in value]))


_KINDS: Final = {
    SpanKind.INTERNAL: Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: Span.SPAN_KIND_CLIENT,
    SpanKind.PRODUCER: Span.SPAN_KIND_PRODUCER,
    SpanKind.CONSUMER: Span.SPAN_KIND_CONSUMER,
}
_STATUSES: Final = {
    StatusCode.UNSET: Status(code=Status.STATUS_CODE_UNSET),
    StatusCode.OK: Status(code=Status.STATUS_CODE_OK),
    StatusCode.ERROR: Status(code=Status.STATUS_CODE_ERROR),
}
_LOCAL: Final = int(SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
_REMOTE: Final = _LOCAL | int(SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
