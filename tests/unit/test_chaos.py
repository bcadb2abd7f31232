"""The chaos run's own parts: what it sends, what it breaks, and that its verifier sees what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.v1 import request_pb2, result_pb2
from millpond_cli.chaos.load import Sending, load
from millpond_cli.chaos.report import Course, broken, figures, words
from millpond_cli.chaos.schedule import SERVICES, Fault, schedule
from millpond_cli.chaos.verify import DeadLetter, Findings, longest_stall_s, verify
from millpond_core import json_codec
from millpond_core.identity import body_hash

SEEDS = st.integers(0, 1 << 32)


@given(st.integers(0, 60), SEEDS, st.integers(1, 2))
def test_a_schedule_is_its_seeds_and_meets_every_victim(kills: int, seed: int, replicas: int) -> None:
    steps = schedule(kills, seed, replicas)
    assert steps == schedule(kills, seed, replicas)
    assert len(steps) == kills
    assert all(step.after_s > 0 for step in steps)
    if kills >= 8:
        struck = {step.instance.partition("-")[0] for step in steps}
        assert struck == {*SERVICES, "triton", "milvus", "kafka"}
        assert any(step.fault is Fault.FREEZE and step.instance.partition("-")[0] in SERVICES for step in steps)
    if replicas == 1:
        assert not any("-" in step.instance for step in steps)


@given(st.integers(1, 300), SEEDS)
def test_a_load_is_its_seeds_and_a_copy_has_the_same_body(requests: int, seed: int) -> None:
    sendings = load(requests, seed)
    assert sendings == load(requests, seed)
    first = {(each.tenant, each.id): each for each in sendings if each.kind == "request"}
    assert len(first) == requests
    for each in sendings:
        if each.kind == "unreadable":
            with pytest.raises(orjson.JSONDecodeError):
                orjson.loads(each.body)
        elif each.kind != "request":
            original = first[each.tenant, each.id]
            assert each.at >= original.at
            assert (hash_of(each) == hash_of(original)) == (each.kind == "copy")


def hash_of(sending: Sending) -> bytes:
    return body_hash(json_codec.decode(sending.body, request_pb2.Request))


SENDINGS = load(200, 7)
REQUESTS = [each for each in SENDINGS if each.kind == "request"]
CONFLICT = next(each for each in SENDINGS if each.kind == "conflict")
UNREADABLE = next(each for each in SENDINGS if each.kind == "unreadable")


def result_of(sending: Sending) -> result_pb2.Result:
    return result_pb2.Result(
        id=sending.id,
        tenant=sending.tenant,
        status=result_pb2.STATUS_OK,
        output=result_pb2.Output(text=f"user {sending.prompt} assistant"),
        served_by=result_pb2.ServedBy(route=result_pb2.ROUTE_SMALL),
    )


RESULTS = [result_of(each) for each in REQUESTS]
LETTERS = [
    *(DeadLetter("id_conflict", each.key, b"") for each in SENDINGS if each.kind == "conflict"),
    *(DeadLetter("malformed", b"", each.body) for each in SENDINGS if each.kind == "unreadable"),
]


def found(
    results: Sequence[result_pb2.Result] = RESULTS,
    letters: Sequence[DeadLetter] = LETTERS,
    accepted: Sequence[Sending] = SENDINGS,
    doubtful: Sequence[Sending] = (),
) -> Findings:
    return verify(accepted, doubtful, results, letters, echoes=True)


COURSE = Course({"kafka": 2, "router": 1}, len(RESULTS), 0, 0, {"router": 1.5}, 60.0)


def missed(findings: Findings, course: Course = COURSE) -> list[str]:
    return [line.partition(":")[0] for line in broken(figures(findings, course))]


def test_a_run_in_which_all_is_well_misses_nothing() -> None:
    assert missed(found()) == []
    assert found().requests == len(REQUESTS)
    # The router delivers at least once: what is unreadable may be buried twice.
    assert missed(found(letters=[*LETTERS, *LETTERS])) == []


def test_what_is_lost_doubled_or_strange_is_named() -> None:
    first = REQUESTS[0]
    who = (first.tenant, first.id)
    assert found(results=RESULTS[1:]).lost == [who]
    assert found(results=[*RESULTS, RESULTS[0], RESULTS[0]]).duplicates == [who, who]
    stranger = result_of(replace(first, id="nobody"))
    assert found(results=[*RESULTS, stranger]).strangers == [(first.tenant, "nobody")]
    another = result_of(first)
    another.output.text = "the answer to something else"
    assert found(results=[another, *RESULTS[1:]]).wrong == [who]
    fewer = replace(COURSE, model_calls=len(RESULTS) - 1)
    assert missed(found(results=RESULTS[1:]), fewer) == ["lost"]
    assert str(who) in words(found(results=RESULTS[1:]), COURSE)


def test_what_kafka_never_took_may_have_a_result_or_none() -> None:
    doubt = REQUESTS[0]
    rest = [each for each in SENDINGS if (each.tenant, each.id) != (doubt.tenant, doubt.id)]
    letters = [each for each in LETTERS if each.key != doubt.key]
    for results in (RESULTS, RESULTS[1:]):
        fewer = replace(COURSE, model_calls=len(results))
        assert missed(found(results, letters, rest, [doubt]), fewer) == []
    assert missed(found([*RESULTS, RESULTS[0]], letters, rest, [doubt])) == ["duplicates"]


@pytest.mark.parametrize("doubt", [CONFLICT, UNREADABLE])
def test_what_kafka_never_took_may_be_buried_or_not(doubt: Sending) -> None:
    rest = [each for each in SENDINGS if each is not doubt]
    without = [each for each in LETTERS if (each.key, each.value) not in ((doubt.key, b""), (b"", doubt.body))]
    assert len(without) == len(LETTERS) - 1
    for letters in (LETTERS, without):
        assert missed(found(letters=letters, accepted=rest, doubtful=[doubt])) == []


def test_what_must_be_buried_is_and_nothing_else() -> None:
    assert len(found(letters=[each for each in LETTERS if each.key != CONFLICT.key]).unburied) == 1
    assert len(found(letters=[each for each in LETTERS if each.value != UNREADABLE.body]).unburied) == 1
    sound = DeadLetter("id_conflict", REQUESTS[0].key + b"-", b"")
    assert found(letters=[*LETTERS, sound, DeadLetter("engine_error", b"", b"")]).buried == sorted(
        [repr(sound.key), "engine_error"]
    )


def test_model_calls_may_exceed_what_was_served_by_what_was_in_flight_and_declared() -> None:
    retried = [result_of(each) for each in REQUESTS]
    retried[0].attempts.add(model="small")
    more = replace(COURSE, model_calls=len(RESULTS) + 6, in_flight_at_kills=3, asked_again=2)
    assert missed(found(retried), more) == []
    assert len(missed(found(retried), replace(more, model_calls=len(RESULTS) + 7))) == 1


TIMES = st.lists(st.integers(0, 50).map(float), max_size=12)


@given(TIMES, st.data())
def test_a_stall_is_the_longest_time_with_work_and_nothing_done(came: list[float], data: st.DataObject) -> None:
    went = sorted(at + data.draw(st.integers(1, 20)) for at in came)
    by_counting = 0.0
    moments = sorted({*came, *went})
    since: float | None = None
    for at in moments:
        if at in went and since is not None:
            by_counting = max(by_counting, at - since)
        waiting = Counter(moment <= at for moment in came)[True] - Counter(moment <= at for moment in went)[True]
        since = None if waiting <= 0 else at if (at in went or since is None) else since
    assert longest_stall_s(came, went) == by_counting
