"""OpenTelemetry, here and in `span_encoding` only: span and attribute names, trace context in headers, and where spans
go.

A hop is three spans of the request's own trace, each the parent of the next:

    send T (producer) ─▶ receive T, ended when the record is taken ─▶ process T, ended when it is done with ─▶ send U

so a request that stalls shows where it is. A batch is a trace of its own, one span with a link to each member; the
model's call is a child of each member's `process`, with a link to the batch.

With tracing off, every span stands for the context that came in: it is handed on unchanged, and costs next to nothing.
The text of a prompt or an answer is never an attribute.

Names: OpenTelemetry semantic conventions for messaging and for generative AI, 1.37.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from millpond_core.span_encoding import OtlpExporter

# What an operation is called; a span's name is the operation and the topic, model or method it works on.
RECEIVE: Final = "receive"
PROCESS: Final = "process"
SEND: Final = "send"
CHAT: Final = "chat"
BATCH: Final = "batch"

# Messaging.
SYSTEM: Final = "messaging.system"
OPERATION_TYPE: Final = "messaging.operation.type"
OPERATION_NAME: Final = "messaging.operation.name"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
OFFSET: Final = "messaging.kafka.offset"
MESSAGE_COUNT: Final = "messaging.batch.message_count"

# Generative AI.
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

# Remote calls.
RPC_SYSTEM: Final = "rpc.system"
RPC_METHOD: Final = "rpc.method"
ERROR_TYPE: Final = "error.type"

# Ours.
REQUEST_ID: Final = "millpond.request.id"
TENANT: Final = "millpond.tenant"
TIER: Final = "millpond.tier"
DEADLINE: Final = "millpond.deadline"
ROUTE: Final = "millpond.route"
REASONS: Final = "millpond.decision.reasons"
HEADS: Final = "millpond.decision.heads"
DOMAIN: Final = "millpond.decision.domain"
TASK: Final = "millpond.decision.task"
DIFFICULTY: Final = "millpond.decision.difficulty"
NOVELTY: Final = "millpond.decision.novelty"
OUT_OF_SCOPE: Final = "millpond.decision.out_of_scope"
MIN_QUALITY: Final = "millpond.decision.min_quality"
FEATURES: Final = "millpond.decision.features"
"""What was counted in the text: "name number"."""
OPTIONS: Final = "millpond.decision.options"
"""Each configured model: "name quality cost verdict"."""
SHADOW_MODEL: Final = "millpond.decision.shadow_model"
"""What the candidate heads would have chosen."""
STATUS: Final = "millpond.status"
REPLAY: Final = "millpond.replay"
ATTEMPT: Final = "millpond.attempt"
COST_USD: Final = "millpond.cost_usd"
EMBEDDER_VERSION: Final = "millpond.embedder.version"
OUTCOME: Final = "millpond.outcome"
"""What this stage did with the request: answer, failure, forward, retry, moved (to the topic's end), lost (to another
replica)."""
CACHE_OUTCOME: Final = "millpond.cache.outcome"
CACHE_SIMILARITY: Final = "millpond.cache.similarity"
CACHE_SOURCE_ID: Final = "millpond.cache.source_id"
BATCH_ROWS: Final = "millpond.batch.rows"
BATCH_REASON: Final = "millpond.batch.reason"
"""Why the batch was sent when it was: full, waited long enough, or a deadline came near."""

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

LARGEST_WINDOW: Final = 512
"""Links that one span may have: rows of the largest batch. The SDK keeps 128 and drops the rest in silence."""

QUEUE_SPANS: Final = 8192
"""Spans that wait to be exported, about 2 KB each; beyond it the oldest are dropped, so a dead back end costs 16 MB."""

EXPORT_TIMEOUT_S: Final = 2.0
"""One export, retry included. Only the exporter's own thread waits for it."""

QUIET_S: Final = 60.0
"""Between two lines that say the tracing back end does not answer."""

Headers = tuple[tuple[str, bytes], ...]
Metadata = tuple[tuple[str, str | bytes], ...]
Attributes = Mapping[str, AttributeValue]


def extract(headers: Iterable[tuple[str, object]] | None) -> Context:
    """The W3C trace context of Kafka headers or gRPC metadata.

    Of several `traceparent` headers the last counts: whoever added it was nearer to us. One that is malformed or of
    the wrong type is as none.
    """
    return _W3C.extract(tuple(headers or ()), Context(), _CARRIER)


def inject(headers: Iterable[tuple[str, bytes]], span: Span) -> Headers:
    """The Kafka headers with this span's context, in place of the trace context that they had."""
    others = [header for header in headers if header[0] not in _CONTEXT_HEADERS]
    return (*others, *((name, value.encode()) for name, value in _written(span)))


def inject_metadata(metadata: Iterable[tuple[str, str | bytes]], span: Span) -> Metadata:
    """As `inject`, for gRPC."""
    return (*(each for each in metadata if each[0] not in _CONTEXT_HEADERS), *_written(span))


def _written(span: Span) -> Sequence[tuple[str, str]]:
    """The span's context as W3C Trace Context, level 1, has it; nothing for one that is not valid.

    Every record of every hop has it: the library's propagator makes a context of the span first, and takes four times
    as long.
    """
    context = span.get_span_context()
    if not context.is_valid:
        return ()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    if not context.trace_state:
        return ((TRACEPARENT, parent),)
    return ((TRACEPARENT, parent), (TRACESTATE, context.trace_state.to_header()))


def in_context(span: Span) -> Context:
    return trace.set_span_in_context(span, Context())


def trace_id(span: Span) -> str:
    """32 hexadecimal digits."""
    return trace.format_trace_id(span.get_span_context().trace_id)


def trace_of(headers: Iterable[tuple[str, object]] | None) -> dict[str, str]:
    """For a log line: the trace id that the record's headers name, as `trace_id`; empty where they name none."""
    span = span_of(extract(headers))
    return {"trace_id": trace_id(span)} if span.get_span_context().is_valid else {}


def span_of(context: Context) -> Span:
    return trace.get_current_span(context)


@contextmanager
def current(span: Span) -> Generator[Span]:
    """While it is open, log lines carry this span's trace id. Neither ends the span nor records exceptions on it."""
    with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
        yield span


class Tracing:
    """Begins spans. Who begins a span ends it, except where the name says that it has ended.

    provider: None turns tracing off.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("millpond") if provider else trace.NoOpTracer()

    def received(
        self, topic: str, headers: Iterable[tuple[str, object]] | None, *, partition: int, offset: int
    ) -> Span:
        """The `receive` span of a record that was just taken, ended. It always has a trace id."""
        if self._provider is None:
            return span_of(self._incoming(headers))
        attributes = _messaging(topic, RECEIVE, {PARTITION: str(partition), OFFSET: offset})
        span = self._begin(f"{RECEIVE} {topic}", self._incoming(headers), SpanKind.CONSUMER, attributes)
        span.end()
        return span

    def process(self, topic: str, received: Span, attributes: Attributes | None = None) -> Span:
        """What the service does with the record; ends when its outcome is decided, before the transaction."""
        if self._provider is None:
            return received
        return self._begin(
            f"{PROCESS} {topic}", in_context(received), SpanKind.CONSUMER, _messaging(topic, PROCESS, attributes)
        )

    def send(self, topic: str, parent: Span | None, attributes: Attributes | None = None) -> Span:
        """To be injected into the record's headers. Without a parent it begins the trace, as a producer does."""
        if self._provider is None and parent:
            return parent
        context = in_context(parent) if parent else self._incoming(None)
        return self._begin(f"{SEND} {topic}", context, SpanKind.PRODUCER, _messaging(topic, SEND, attributes))

    def batch(self, members: Sequence[Span], attributes: Attributes | None = None) -> Span:
        """A trace of its own, linked to each member's `process` span."""
        links = [Link(member.get_span_context()) for member in members[:LARGEST_WINDOW]]
        return self._begin(BATCH, Context(), SpanKind.INTERNAL, attributes, links)

    def chat(
        self, model: str, parent: Span, attributes: Attributes | None = None, *, batch: Span | None = None
    ) -> Span:
        """One request's share of a model's call."""
        links = [Link(batch.get_span_context())] if batch else None
        own: dict[str, AttributeValue] = {GEN_AI_OPERATION: CHAT, REQUEST_MODEL: model, **(attributes or {})}
        return self._begin(f"{CHAT} {model}", in_context(parent), SpanKind.CLIENT, own, links)

    def serve(self, method: str, metadata: Iterable[tuple[str, object]] | None) -> Span:
        """A gRPC call that came in. It always has a trace id. method: "millpond.v1.Inference/Infer"."""
        return self._begin(method, self._incoming(metadata), SpanKind.SERVER, {RPC_SYSTEM: "grpc", RPC_METHOD: method})

    def call(self, method: str, parent: Span) -> Span:
        """A gRPC call that goes out."""
        return self._begin(method, in_context(parent), SpanKind.CLIENT, {RPC_SYSTEM: "grpc", RPC_METHOD: method})

    def step(self, name: str, parent: Span, attributes: Attributes | None = None) -> Span:
        """Work inside a `process` span that deserves its own time: `embed`, `lookup`."""
        return self._begin(name, in_context(parent), SpanKind.INTERNAL, attributes)

    def close(self, timeout_s: float = 2 * EXPORT_TIMEOUT_S) -> None:
        """Hand over what waits, for so long at most."""
        if self._provider is None:
            return
        # The SDK waits half a minute for a back end that is down; a daemon thread is left behind instead.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _begin(
        self,
        name: str,
        context: Context,
        kind: SpanKind,
        attributes: Attributes | None,
        links: Sequence[Link] | None = None,
    ) -> Span:
        return self._tracer.start_span(name, context, kind, attributes, links)

    def _incoming(self, headers: Iterable[tuple[str, object]] | None) -> Context:
        """The sender's context; with tracing off and no sender, one with a trace id of its own."""
        context = extract(headers)
        if self._provider is None and not span_of(context).get_span_context().is_valid:
            return in_context(_new_trace())
        return context


def start_tracing(
    service: str,
    *,
    otlp_endpoint: str | None,
    traces_file: Path | None,
    instance: str = "",
    links: int = LARGEST_WINDOW,
) -> Tracing:
    """Spans go to the OTLP/gRPC endpoint ("http://host:4317"), else as JSON lines to the file, else nowhere.

    The standard OTEL_* variables hold too, the sampler's (OTEL_TRACES_SAMPLER) among them. The file may be shared by
    several processes. Never waits for the back end, and never fails because of it.
    """
    exporter: SpanExporter
    if otlp_endpoint:
        exporter = OtlpExporter(endpoint=otlp_endpoint, timeout=EXPORT_TIMEOUT_S)
    elif traces_file:
        exporter = JsonLinesExporter(traces_file)
    else:
        return Tracing()
    _quieten_exporter()
    resource = Resource.create(
        {"service.name": service, "service.namespace": "millpond", "service.instance.id": instance}
    )
    provider = TracerProvider(resource=resource, span_limits=SpanLimits(max_links=links), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, QUEUE_SPANS, schedule_delay_millis=1000))
    return Tracing(provider)


class JsonLinesExporter(SpanExporter):
    """One span a line, as the SDK writes it: name, context, parent_id, kind, times, attributes, links, resource."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        lines = "".join(span.to_json(indent=None) + "\n" for span in spans)
        # One write, at the end of the file: lines of several processes do not mix.
        os.write(self._file, lines.encode())
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        os.close(self._file)


class OnceAWhile(logging.Filter):
    """Lets one record through, then none for QUIET_S."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + QUIET_S
        return True


def _quieten_exporter() -> None:
    for name in ("opentelemetry.exporter.otlp.proto.grpc.exporter", "opentelemetry.sdk._shared_internal"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, OnceAWhile) for each in logger.filters):
            logger.addFilter(OnceAWhile())


def _new_trace() -> Span:
    """Marked as sampled, so that a later service that does trace keeps it."""
    ids = RandomIdGenerator()
    return NonRecordingSpan(
        SpanContext(ids.generate_trace_id(), ids.generate_span_id(), False, TraceFlags(TraceFlags.SAMPLED))
    )


def _messaging(topic: str, operation: str, attributes: Attributes | None = None) -> dict[str, AttributeValue]:
    own: dict[str, AttributeValue] = {
        SYSTEM: "kafka",
        DESTINATION: topic,
        OPERATION_TYPE: operation,
        OPERATION_NAME: operation,
    }
    return {**own, **attributes} if attributes else own


class _Carrier(Getter[tuple[tuple[str, object], ...]]):
    """Headers as the propagator reads them: a value of the wrong type, not ASCII or absurdly long is as none."""

    def get(self, carrier: tuple[tuple[str, object], ...], key: str) -> list[str] | None:
        for name, value in reversed(carrier):
            if name == key:
                text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
                return [text] if isinstance(text, str) and len(text) <= _LONGEST_HEADER else None
        return None

    def keys(self, carrier: tuple[tuple[str, object], ...]) -> list[str]:
        return [name for name, _ in carrier]


_W3C = TraceContextTextMapPropagator()
_CARRIER = _Carrier()
_CONTEXT_HEADERS = (TRACEPARENT, TRACESTATE)
_LONGEST_HEADER = 512
