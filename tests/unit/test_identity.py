"""Who a request is: no two requests share a key, and a copy is known by its body."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from millpond.v1.request_pb2 import Request
from millpond_core.identity import NO_TENANT, body_hash, default_id, is_id, is_tenant, key_of

tricky = st.text(alphabet="a/#%2 0é", max_size=6)
identities = st.tuples(tricky, tricky, st.integers(0, 30))


@settings(deadline=None)
@given(identities, identities)
@example(("a/b", "c", 0), ("a", "b/c", 0))
@example(("a", "b#2", 0), ("a", "b", 2))
@example(("a", "b#0", 0), ("a", "b", 0))
@example(("a%2Fb", "c", 0), ("a/b", "c", 0))
def test_no_two_requests_share_a_key(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert (key_of(*one) == key_of(*other)) == (one == other)


def test_a_key_can_be_read() -> None:
    assert key_of("acme", "invoice/1841 é") == "acme/invoice/1841 é".encode()
    assert key_of("acme", "invoice-1841", 2) == b"acme/invoice-1841#2"


def test_a_record_gives_its_request_one_id() -> None:
    record_id = default_id("bWlsbHBvbmQtdG9waWMtaQ", 3, 1841)
    assert record_id == "bWlsbHBvbmQtdG9waWMtaQ-3-1841"
    assert is_id(record_id)
    assert is_tenant(NO_TENANT)


def test_what_an_id_and_a_tenant_may_be() -> None:
    assert all(map(is_id, ("x", "x" * 256, "a b", "猫", "a/b#2")))
    assert not any(map(is_id, ("", "x" * 257, "a\nb", "a\0", "\x7f", "\u200b", "\u2028")))
    assert all(map(is_tenant, ("a", "Acme_1.eu-west", "x" * 64)))
    assert not any(map(is_tenant, ("", "x" * 65, "a/b", "a b", "é", "a\n")))


def test_another_body_has_another_hash() -> None:
    bodies = [
        Request(id="a"),
        Request(id="b"),
        Request(id="a", params={}),
        Request(id="a", params={"temperature": 0}),
        Request(id="a", messages=[{"role": "user", "content": "x"}]),
        Request(id="a", metadata={"x": "y"}),
    ]
    hashes = [body_hash(body) for body in bodies]
    assert len(set(hashes)) == len(bodies)
    assert {len(each) for each in hashes} == {32}


def test_a_hash_is_the_same_in_every_version() -> None:
    """Claims outlive a release: were the hash of a body another one, every copy would be called a conflict."""
    request = Request(id="invoice-1841", tenant="acme", params={"temperature": 0}, metadata={"b": "2", "a": "1"})
    assert body_hash(request).hex() == "e3b6a0c8614b015e58541d77f99e9ef5641d4364a0a604ce74faf3b318daefd4"


def test_the_order_of_metadata_is_no_part_of_a_body() -> None:
    """protobuf's maps have no order, and a copy of a request may come from another writer."""
    metadata = {f"name-{number}": "x" for number in range(32)}
    backwards = dict(reversed(metadata.items()))
    assert body_hash(Request(metadata=metadata)) == body_hash(Request(metadata=backwards))
