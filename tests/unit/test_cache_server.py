"""What people and programs can say to the cache, over a real gRPC server and a store in memory."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from cache_served import asked
from google.protobuf.timestamp_pb2 import Timestamp

from millpond.v1 import control_pb2, request_pb2, result_pb2, services_pb2
from millpond_cache.memory_store import MemoryStore
from millpond_cache.store import StoreUnavailable, Which
from millpond_core.cache_key import request_key


class AwayStore(MemoryStore):
    async def learn(self, lessons: object) -> None:
        raise StoreUnavailable("away")

    async def count(self, which: Which) -> int:
        raise StoreUnavailable("away")

    async def forget(self, which: Which) -> int:
        raise StoreUnavailable("away")


def put(
    text: str = "How deep is the sea?", id: str = "r-1", tenant: str = "acme", tag: str = "sea", ttl_s: int = 0
) -> services_pb2.PutRequest:
    message = request_pb2.Message(role="user", content=text)
    return services_pb2.PutRequest(
        request=request_pb2.Request(
            id=id,
            tenant=tenant,
            messages=[message],
            metadata={"cache_tag": tag},
            cache=request_pb2.CacheOptions(ttl_s=ttl_s),
        ),
        model="small",
        output=result_pb2.Output(text="Deep.", finish_reason="stop"),
        usage=result_pb2.Usage(input_tokens=6, output_tokens=2),
    )


def look(of: services_pb2.PutRequest) -> services_pb2.LookupRequest:
    return services_pb2.LookupRequest(request=of.request, model=of.model)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), failure.value.details() or ""


async def test_what_is_put_is_found_and_recalled() -> None:
    async with asked(MemoryStore()) as stub:
        kept = await stub.Put(put())
        found = await stub.Lookup(look(put()))
        assert (found.answer.output.text, found.reasons[0].code) == ("Deep.", "cache.exact")
        key = request_key(put().request, "small")
        assert key == kept.key
        recalled = await stub.Recall(services_pb2.RecallRequest(keys=[key, "0" * 64]))
        assert dict(recalled.answers) == {key: found.answer}
        other = await stub.Lookup(look(put(tenant="other")))
        assert not other.HasField("answer")


@pytest.mark.parametrize(
    ("order", "fits"),
    [
        (control_pb2.Invalidate(tenant="acme"), True),
        (control_pb2.Invalidate(tenant="acme", source_id="r-1"), True),
        (control_pb2.Invalidate(tenant="acme", source_id="r-2"), False),
        (control_pb2.Invalidate(tenant="acme", tag="sea"), True),
        (control_pb2.Invalidate(tenant="other", tag="sea"), False),
        (control_pb2.Invalidate(all_tenants=True, model="small"), True),
        (control_pb2.Invalidate(all_tenants=True, model="large"), False),
    ],
)
async def test_what_is_invalidated_is_counted_first_and_then_gone(order: control_pb2.Invalidate, fits: bool) -> None:
    async with asked(MemoryStore()) as stub:
        await stub.Put(put())
        counted = control_pb2.Invalidate()
        counted.CopyFrom(order)
        counted.dry_run = True
        assert (await stub.Invalidate(counted)).entries == int(fits)
        assert (await stub.Lookup(look(put()))).HasField("answer")
        assert (await stub.Invalidate(order)).entries == int(fits)
        assert (await stub.Lookup(look(put()))).HasField("answer") != fits


async def test_a_tag_that_is_longer_than_what_is_kept_of_it_finds_its_answers() -> None:
    tag = "ü" * 300
    async with asked(MemoryStore()) as stub:
        await stub.Put(put(tag=tag))
        assert (await stub.Invalidate(control_pb2.Invalidate(tenant="acme", tag=tag))).entries == 1


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (control_pb2.Invalidate(), "tenant"),
        (control_pb2.Invalidate(tag="sea"), "tenant"),
        (control_pb2.Invalidate(tenant="acme", all_tenants=True, tag="sea"), "tenant"),
        (control_pb2.Invalidate(all_tenants=True), "older_than"),
        (control_pb2.Invalidate(tenant="a/b"), "tenant"),
        (control_pb2.Invalidate(tenant="acme", prefix="x" * 513), "prefix"),
        (control_pb2.Invalidate(tenant="acme", tag="x" * 513), "tag"),
        (control_pb2.Invalidate(tenant="acme", by="x" * 513), "by"),
        (control_pb2.Invalidate(tenant="acme", older_than=Timestamp(seconds=2**61)), "older_than"),
        (control_pb2.Invalidate(tenant="acme", older_than=Timestamp(nanos=-7)), "older_than"),
    ],
)
async def test_an_order_that_does_not_say_what_is_meant_is_refused(order: control_pb2.Invalidate, word: str) -> None:
    async with asked(MemoryStore()) as stub:
        await stub.Put(put())
        code, details = await refused(stub.Invalidate(order))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert word in details
        assert (await stub.Lookup(look(put()))).HasField("answer")


async def test_an_answer_that_was_wrong_is_forgotten_at_once_and_one_that_was_right_stays() -> None:
    async with asked(MemoryStore()) as stub:
        await stub.Put(put())
        await stub.Put(put("How wide is the sea?", "r-2"))
        assert (await stub.Feedback(services_pb2.FeedbackRequest(tenant="acme", source_id="r-2"))).entries == 0
        said = services_pb2.FeedbackRequest(tenant="acme", source_id="r-1", wrong=True)
        assert (await stub.Feedback(said)).entries == 1
        assert not (await stub.Lookup(look(put()))).HasField("answer")
        assert (await stub.Lookup(look(put("How wide is the sea?")))).HasField("answer")
        stats = await stub.Stats(services_pb2.StatsRequest(tenant="acme"))
        assert (stats.reported, stats.reported_wrong) == (2, 1)
        # Who complains is no sample of who asked.
        assert (stats.judged, stats.error_low, stats.error_high) == (0, 0, 1)


async def test_the_statistics_are_those_of_what_was_asked() -> None:
    async with asked(MemoryStore()) as stub:
        await stub.Put(put())
        for tenant in ("acme", "acme", "other"):
            await stub.Lookup(look(put(tenant=tenant)))
        acme = await stub.Stats(services_pb2.StatsRequest(tenant="acme"))
        assert (acme.lookups, acme.hits, dict(acme.reasons)) == (2, 2, {"cache.exact": 2})
        assert (acme.input_tokens_saved, acme.output_tokens_saved) == (12, 4)
        everybody = await stub.Stats(services_pb2.StatsRequest())
        assert (everybody.lookups, everybody.hits) == (3, 2)
        assert sum(everybody.reasons.values()) == 3


async def test_a_store_that_is_away_is_said_to_be_and_what_was_meant_is_given_no_more() -> None:
    store = AwayStore()
    async with asked(store) as stub:
        assert (await refused(stub.Put(put())))[0] is grpc.StatusCode.UNAVAILABLE
        code, details = await refused(stub.Invalidate(control_pb2.Invalidate(tenant="acme")))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "Traceback" not in details
        said = services_pb2.FeedbackRequest(tenant="acme", source_id="r-1", wrong=True)
        assert (await refused(stub.Feedback(said)))[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "text", ["", "?" * 100_000, "Wie tief ist das Meer?", "海はどのくらい深いですか", "🌊🌊❓", "\u200b\u202e"]
)
async def test_any_text_is_found_again_as_it_was_and_as_nothing_else(text: str) -> None:
    async with asked(MemoryStore()) as stub:
        await stub.Put(put(text))
        assert (await stub.Lookup(look(put(text)))).answer.output.text == "Deep."
        assert not (await stub.Lookup(look(put(text + ".")))).HasField("answer")


async def test_what_is_no_request_is_refused_by_its_name() -> None:
    nothing = services_pb2.PutRequest()
    async with asked(MemoryStore()) as stub:
        for call in (
            stub.Put(nothing),
            stub.Lookup(services_pb2.LookupRequest()),
            stub.Feedback(services_pb2.FeedbackRequest()),
            stub.Recall(services_pb2.RecallRequest(keys=["0" * 64] * 2000)),
            stub.Recall(services_pb2.RecallRequest(keys=["a'] or key != '' or key in ['b"])),
            stub.Lookup(look(put(tenant="a/b c\n"))),
            stub.Put(put(ttl_s=1 << 40)),
        ):
            code, details = await refused(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert details
