"""A record of ai.requests becomes one record: an envelope, refused or not, or a dead letter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from small_heads import DIMENSION, EMBEDDER, small_heads

from millpond.v1 import envelope_pb2, request_pb2, result_pb2
from millpond_cli import metrics_page
from millpond_core import json_codec, telemetry, topics
from millpond_core.clock import ManualClock
from millpond_core.codec import READ_LIMIT_BYTES
from millpond_core.embedding import pack
from millpond_core.errors import Code
from millpond_core.identity import body_hash
from millpond_core.processor import BODY_HEADER, Outgoing, Partition, Record, header
from millpond_core.settings import Settings
from millpond_core.telemetry import Tracing
from millpond_router import head_folder
from millpond_router import rules as rule_files
from millpond_router.accept import Terms
from millpond_router.brain import Brain
from millpond_router.calibration import Calibration
from millpond_router.decide import Policy, model_names, policy_of
from millpond_router.heads import write
from millpond_router.language import LanguageDetector
from millpond_router.routing import Embeddings, Routing
from millpond_router.settings import QualitySection

NOW = 1_795_399_200.5
ACCEPTED_MS = 1_795_399_200_250
SETTINGS = Settings()
POLICY = policy_of(SETTINGS)
TERMS = Terms(SETTINGS.limits, 1_000_000, model_names(POLICY), SETTINGS.tiers)
LANGUAGE = LanguageDetector()
SAY_HELLO = [{"role": "user", "content": "Say hello to the people of this and that town."}]


class EmbedderAway:
    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        return [None] * len(texts)


class EmbedderThere:
    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        return [envelope_pb2.Embedding(vector=bytes(768), version=f"of {text}", tokens=3) for text in texts]


class SomewhereInSpace:
    """A vector of its own for each text, of the version that is said."""

    def __init__(self, version: str) -> None:
        self._version = version

    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        return [pack(direction_of(text), self._version, 3) for text in texts]


def direction_of(text: str) -> NDArray[np.float32]:
    vector = np.random.default_rng(list(text.encode("utf-8", "surrogatepass"))).normal(size=384)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def brain_of(folder: Path = head_folder.SHIPPED) -> Brain:
    brain = Brain(folder)
    brain.look()
    return brain


BRAIN = brain_of()
assert BRAIN.heads is not None
UNDERSTOOD = SomewhereInSpace(BRAIN.heads.embedder)
FLOOR = policy_of(SETTINGS, QualitySection(min_quality=0.7))


def routing_of(
    embeddings: Embeddings | None = None,
    *,
    tracing: Tracing | None = None,
    tenant: str | None = None,
    policy: Policy = POLICY,
    brain: Brain | None = None,
    shadow: Brain | None = None,
    encoder: Embeddings | None = None,
) -> Routing:
    return Routing(
        terms=TERMS,
        policy=policy,
        rules=rule_files.load(rule_files.SHIPPED, POLICY.targets),
        language=LANGUAGE,
        embeddings=embeddings or EmbedderAway(),
        topic_ids={topics.REQUESTS: "topic-id"},
        tenants={topics.REQUESTS: tenant} if tenant else {},
        clock=ManualClock(NOW),
        tracing=tracing or Tracing(),
        brain=brain,
        shadow=shadow,
        encoder=encoder,
    )


def record_of(value: bytes | None, *headers: tuple[str, Any], offset: int = 7) -> Record:
    return Record(Partition(topics.REQUESTS, 2), offset, ACCEPTED_MS, None, value, headers)


def json_of(**fields: Any) -> bytes:
    return json.dumps({"messages": SAY_HELLO} | fields).encode()


async def outgoing_of(value: bytes | None, *headers: tuple[str, Any], routing: Routing | None = None) -> Outgoing:
    routing = routing or routing_of()
    (outgoing,) = await routing.outgoing(routing.take([record_of(value, *headers)]), urgent=True)
    return outgoing


def envelope_of(outgoing: Outgoing) -> envelope_pb2.Routed:
    assert outgoing.topic == topics.ROUTED
    return envelope_pb2.Routed.FromString(outgoing.value or b"")


async def test_a_request_is_filled_in_and_goes_on_with_its_decision() -> None:
    outgoing = await outgoing_of(json_of())
    routed = envelope_of(outgoing)
    request = routed.request
    assert (request.id, request.tenant, request.model) == ("topic-id-2-7", "default", "auto")
    assert request.tier == routed.decision.tier == request_pb2.TIER_STANDARD
    assert outgoing.key == b"default/topic-id-2-7"
    assert routed.accepted_at.ToMilliseconds() == ACCEPTED_MS
    assert routed.decision.deadline.ToMilliseconds() == ACCEPTED_MS + 3_600_000
    assert routed.format == envelope_pb2.WIRE_FORMAT_JSON
    assert header(outgoing.headers, BODY_HEADER) == body_hash(request)
    assert not routed.HasField("embedding")
    assert routed.timings_ms["router"] == 0


async def test_json_and_protobuf_of_the_same_request_are_copies_and_another_request_is_not() -> None:
    written = request_pb2.Request(messages=[request_pb2.Message(**SAY_HELLO[0])], id="a").SerializeToString()
    one = await outgoing_of(json_of(id="a"))
    other = await outgoing_of(written, ("content-type", b"application/protobuf"))
    third = await outgoing_of(json_of(id="a", tier="overnight"))
    assert envelope_of(other).format == envelope_pb2.WIRE_FORMAT_PROTOBUF
    assert header(one.headers, BODY_HEADER) == header(other.headers, BODY_HEADER) != header(third.headers, BODY_HEADER)


async def test_the_topics_tenant_beats_the_bodys() -> None:
    routing = routing_of(tenant="acme")
    for value in (json_of(tenant="evil"), json_of(), json_of(tenant="evil", tier="soon"), json_of(tenant="a/b")):
        outgoing = await outgoing_of(value, routing=routing)
        assert envelope_of(outgoing).request.tenant == "acme"
        assert (outgoing.key or b"").startswith(b"acme/")


async def test_each_request_of_a_batch_gets_its_own_embedding() -> None:
    values = [json_of(messages=[{"role": "user", "content": f"number {n}"}]) for n in range(3)]
    records = [record_of(value, offset=n) for n, value in enumerate([values[0], b"no json", values[1], values[2]])]
    routing = routing_of(EmbedderThere())
    outgoing = await routing.outgoing(routing.take(records), urgent=False)
    assert [each.topic for each in outgoing] == [topics.ROUTED, topics.DEADLETTER, topics.ROUTED, topics.ROUTED]
    versions = [envelope_of(each).embedding.version for each in outgoing if each.topic == topics.ROUTED]
    assert versions == ["of number 0", "of number 1", "of number 2"]


def test_what_is_realtime_or_needs_no_embedding_is_urgent() -> None:
    values = [json_of(), json_of(tier="overnight"), json_of(tier="realtime"), json_of(model="gpt-9"), b"no json"]
    assert [item.urgent for item in routing_of().take([record_of(value) for value in values])] == [
        *(False, False, True, True, True)
    ]


@pytest.mark.parametrize(
    ("value", "headers", "code"),
    [
        (json_of(id="a", messages=[]), (), Code.EMPTY_MESSAGES),
        (json_of(id="a", messages=[{"role": "user", "content": "  "}]), (), Code.EMPTY_MESSAGES),
        (json_of(id="a", messages=[{"role": "user", "content": "a\0b"}]), (), Code.INVALID_TEXT),
        (json_of(id="a", messages=[{"role": "user", "content": "word " * 30_000}]), (), Code.CONTEXT_LENGTH_EXCEEDED),
        (json_of(id="a", messages=[{"role": "user", "content": "x" * 600_000}]), (), Code.REQUEST_TOO_LARGE),
        (json_of(id="a", messages=[{"role": "user", "content": "x" * 2_000_000}]), (), Code.REQUEST_TOO_LARGE),
        (json_of(id="a", tier="soon"), (), Code.INVALID_FIELD),
        (json_of(id="a", model="gpt-9"), (), Code.UNKNOWN_MODEL),
        (json_of(id="a", deadline="2020-01-01T00:00:00Z"), (), Code.DEADLINE_PASSED),
        (json_of(id="a", deadline="2999-01-01T00:00:00Z"), (), Code.INVALID_FIELD),
        (json_of(id="a", messages="hello"), (), Code.INVALID_FIELD),
        (json_of(id="a", params={"max_tokens": 0}), (), Code.INVALID_PARAMS),
        (json_of(id="a", priority=1), (), Code.UNKNOWN_FIELD),
        (json_of(id="a"), (("content-type", b"text/plain"),), Code.MALFORMED),
    ],
    ids=str,
)
async def test_a_request_that_can_be_addressed_goes_on_refused(value: bytes, headers: Any, code: Code) -> None:
    outgoing = await outgoing_of(value, *headers)
    routed = envelope_of(outgoing)
    assert routed.reject.code == code
    assert routed.request == request_pb2.Request(id="a", tenant="default")
    assert outgoing.key == b"default/a"
    assert len(header(outgoing.headers, BODY_HEADER) or b"") == 32
    assert routed.decision.tier == request_pb2.TIER_STANDARD
    assert len(outgoing.value or b"") < 1_000


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (json_of(tier="realtime", priority=1), ()),
        (json_of(tier="realtime", messages=[{"role": "user", "content": "x" * 2_000_000}]), ()),
        (json_of(tier="realtime"), (("content-type", b"text/plain"),)),
        (
            request_pb2.Request(tier=request_pb2.TIER_REALTIME).SerializeToString() + b"\xf8\x06\x01",
            (("content-type", b"application/protobuf"),),
        ),
    ],
    ids=["unknown field", "too large", "content type", "protobuf"],
)
async def test_a_request_that_cannot_be_read_keeps_the_tier_that_it_names(value: bytes, headers: Any) -> None:
    routed = envelope_of(await outgoing_of(value, *headers))
    assert routed.HasField("reject")
    assert routed.decision.tier == request_pb2.TIER_REALTIME
    assert routed.decision.deadline.ToMilliseconds() == ACCEPTED_MS + 30_000


async def test_a_refused_request_keeps_its_metadata_where_that_is_valid() -> None:
    routed = envelope_of(await outgoing_of(json_of(id="a", model="gpt-9", metadata={"job": "nightly"})))
    assert routed.request.metadata == {"job": "nightly"}
    routed = envelope_of(await outgoing_of(json_of(id="a", model="gpt-9", metadata={"job": "x" * 600})))
    assert routed.request.metadata == {}


@pytest.mark.parametrize("id", ["", "x" * 10_000, "a\nb", "a\0b"])
async def test_an_id_that_cannot_be_used_gives_way_to_the_records_own(id: str) -> None:
    routed = envelope_of(await outgoing_of(json_of(id=id, model="gpt-9")))
    assert routed.request.id == "topic-id-2-7"
    assert routed.HasField("reject")


async def test_a_deadline_that_passed_is_kept_for_the_result() -> None:
    routed = envelope_of(await outgoing_of(json_of(deadline="2020-01-01T00:00:00Z")))
    assert routed.decision.deadline.ToJsonString() == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (None, ()),
        (b"", ()),
        (b"\xff\xfe", ()),
        (b"{", ()),
        (b"[1]", ()),
        (b'"text"', ()),
        (b"\xff\xff\xff", (("content-type", b"application/protobuf"),)),
        (b"{" + b" " * READ_LIMIT_BYTES + b"}", ()),
    ],
)
async def test_what_cannot_be_addressed_is_a_dead_letter_with_its_bytes_and_headers(
    value: bytes | None, headers: Any
) -> None:
    outgoing = await outgoing_of(value, *headers, ("mine", b"\x00\xff"), ("none", None))
    assert outgoing.topic == topics.DEADLETTER
    assert (value or b"").startswith(outgoing.value or b"")
    assert outgoing.headers[: len(headers) + 2] == (*headers, ("mine", b"\x00\xff"), ("none", None))
    about = dict(outgoing.headers[len(headers) :])
    assert about["dead-letter-topic"] == topics.REQUESTS.encode()
    assert (about["dead-letter-partition"], about["dead-letter-offset"]) == (b"2", b"7")
    assert about["dead-letter-reason"] in {code.encode() for code in Code}


@pytest.mark.parametrize(
    ("value", "replay"),
    [(b"2", 2), (b"", 0), (None, 0), (b"-1", 0), (b"two", 0), (b"\xff", 0), (b"9" * 5_000, 0), ("²".encode(), 0)],
)
async def test_a_replay_is_part_of_the_key_and_anything_but_a_number_is_none(value: bytes | None, replay: int) -> None:
    outgoing = await outgoing_of(json_of(id="a"), ("replay", value))
    assert envelope_of(outgoing).replay == replay
    assert outgoing.key == (b"default/a#%d" % replay if replay else b"default/a")


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "content-type", "replay", "tenant", "deadline-ms", "other"]),
        st.none() | st.binary(max_size=40),
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)
NEARLY_REQUESTS = st.fixed_dictionaries(
    {"messages": st.just(SAY_HELLO) | JSON},
    optional={
        name: JSON | st.text()
        for name in ("id", "tenant", "tier", "deadline", "model", "params", "cache", "metadata", "extra")
    },
)
VALUES = (
    st.none()
    | st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | NEARLY_REQUESTS.map(lambda value: json.dumps(value).encode())
)


@given(VALUES, HEADERS)
@example(json_of(), [("traceparent", None), ("content-type", None), ("replay", None)])
async def test_any_record_gives_one_record(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> None:
    outgoing = await outgoing_of(value, *headers)
    if outgoing.topic == topics.DEADLETTER:
        assert (outgoing.value, outgoing.headers[: len(headers)]) == (value, tuple(headers))
        return
    routed = envelope_of(outgoing)
    assert routed.request.id
    assert routed.request.tenant
    assert routed.decision.HasField("deadline")
    assert routed.HasField("reject") != bool(routed.decision.reasons)


async def test_a_request_is_part_of_its_producers_trace_and_the_next_hops_spans_hang_on_its_own() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    outgoing = await outgoing_of(
        json_of(id="a"), ("traceparent", parent), routing=routing_of(tracing=Tracing(provider))
    )
    received, processed = exporter.get_finished_spans()
    assert (received.name, processed.name) == ("receive ai.requests", "process ai.requests")
    assert received.parent is not None
    assert processed.parent is not None
    assert received.context is not None
    assert processed.context is not None
    assert received.parent.span_id == 0xB7AD6B7169203331
    assert processed.parent.span_id == received.context.span_id
    assert processed.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    onward = telemetry.span_of(telemetry.extract(outgoing.headers)).get_span_context()
    assert (onward.trace_id, onward.span_id) == (processed.context.trace_id, processed.context.span_id)
    attributes = dict(processed.attributes or {})
    assert attributes[telemetry.REQUEST_ID] == "a"
    assert attributes[telemetry.ROUTE] == "small"
    assert attributes[telemetry.REASONS] == ("default", "embedder.unavailable")
    assert "hello" not in str(attributes)
    assert envelope_of(outgoing).decision.route == result_pb2.ROUTE_SMALL


# With heads


@given(
    st.text(max_size=4000)
    | st.sampled_from(["Здравствуйте, мир", "日本語のテキスト", "مرحبا", "नमस्ते", "\U0001f600" * 60])
)
async def test_any_text_in_any_language_gets_a_decision_and_its_reasons(text: str) -> None:
    value = json_of(messages=[{"role": "user", "content": text}])
    routed = envelope_of(await outgoing_of(value, routing=routing_of(UNDERSTOOD, policy=FLOOR, brain=BRAIN)))
    if routed.HasField("reject"):
        assert routed.reject.code in (Code.EMPTY_MESSAGES, Code.INVALID_TEXT)
        return
    decision = routed.decision
    assert decision.reasons
    assert [option.verdict for option in decision.judgement.options].count("chosen") == 1
    assert decision.model in {option.model for option in decision.judgement.options}
    for option in decision.judgement.options:
        assert 0 <= option.quality <= 1
    assert json_codec.encode(decision)


def traced() -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


async def test_the_span_explains_the_decision_as_the_result_does() -> None:
    tracing, exporter = traced()
    routing = routing_of(UNDERSTOOD, tracing=tracing, policy=FLOOR, brain=BRAIN)
    decision = envelope_of(await outgoing_of(json_of(), routing=routing)).decision
    told = dict(exporter.get_finished_spans()[1].attributes or {})
    judgement = decision.judgement
    assert told[telemetry.REASONS] == tuple(reason.code for reason in decision.reasons)
    assert told[telemetry.REQUEST_MODEL] == decision.model
    assert (told[telemetry.HEADS], told[telemetry.DOMAIN], told[telemetry.TASK]) == (
        *(judgement.heads, judgement.domain, judgement.task),
    )
    for name in ("difficulty", "novelty", "out_of_scope", "min_quality"):
        assert told[f"millpond.decision.{name}"] == pytest.approx(getattr(judgement, name))
    assert told[telemetry.FEATURES] == tuple(
        f"{name} {judgement.features[name]:g}" for name in sorted(judgement.features)
    )
    assert told[telemetry.OPTIONS] == tuple(
        f"{each.model} {each.quality:.3f} {each.cost_usd} {each.verdict}" for each in judgement.options
    )
    assert BRAIN.heads is not None
    assert told[telemetry.EMBEDDER_VERSION] == BRAIN.heads.embedder


async def test_heads_may_look_at_another_encoder_than_the_one_whose_vectors_travel_on() -> None:
    routing = routing_of(SomewhereInSpace("other-00000000"), brain=BRAIN, encoder=UNDERSTOOD)
    routed = envelope_of(await outgoing_of(json_of(), routing=routing))
    assert routed.embedding.version == "other-00000000"
    assert routed.decision.judgement.options
    # Where that encoder is away, nothing is known of the text, and the request keeps its embedding.
    routing = routing_of(UNDERSTOOD, policy=FLOOR, brain=BRAIN, encoder=EmbedderAway())
    routed = envelope_of(await outgoing_of(json_of(), routing=routing))
    assert routed.HasField("embedding")
    assert not routed.decision.HasField("judgement")
    assert [reason.code for reason in routed.decision.reasons] == ["default", "heads.unavailable"]


class Small(SomewhereInSpace):
    async def of(self, texts: Sequence[str], *, urgent: bool) -> list[envelope_pb2.Embedding | None]:
        return [pack(np.eye(DIMENSION, dtype=np.float32)[0], self._version, 3) for _ in texts]


async def test_a_candidate_decides_beside_the_live_heads_and_moves_nothing(tmp_path: Path) -> None:
    def promising(folder: str, good: float) -> Brain:
        """Heads that promise so much of each model."""
        (tmp_path / folder).mkdir()
        some, level = small_heads(), Calibration((0.0, 1.0), (good, good))
        made = replace(some, calibrations=[level] * 2, expert=some.expert.only([]))
        write(made, "1", tmp_path / folder / "heads.npz", {})
        head_folder.write_manifest(tmp_path / folder, "heads.npz")
        return brain_of(tmp_path / folder)

    resembling = [model.model_copy(update={"resembles": "weak"}) for model in SETTINGS.models]
    policy = policy_of(SETTINGS.model_copy(update={"models": resembling}), QualitySection(min_quality=0.5))
    cheap, dear = (each.name for each in SETTINGS.models)
    live, candidate = promising("live", 0.9), promising("candidate", 0.1)
    before = generate_latest()
    tracing, exporter = traced()
    routing = routing_of(Small(EMBEDDER), tracing=tracing, policy=policy, brain=live, shadow=candidate)
    alone = routing_of(Small(EMBEDDER), policy=policy, brain=live)
    decision = envelope_of(await outgoing_of(json_of(), routing=routing)).decision
    assert decision == envelope_of(await outgoing_of(json_of(), routing=alone)).decision
    told = dict(exporter.get_finished_spans()[1].attributes or {})
    assert (decision.model, told[telemetry.SHADOW_MODEL]) == (cheap, dear)
    counted = metrics_page.parse([generate_latest().decode()]) - metrics_page.parse([before.decode()])
    assert counted.by("millpond_shadow_decisions_total", "live", "candidate")[cheap, dear] == 1
