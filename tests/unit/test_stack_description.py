"""The local stack's description holds together: names, ports, templates."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_cli.stack import components
from millpond_cli.stack.components import COMPONENTS, SPAN
from millpond_cli.stack.description import (
    REPLICAS,
    Answers,
    Component,
    DescriptionError,
    SpeaksKafka,
    fill,
    instances,
    select,
)

NAMES = {component.name for component in COMPONENTS}


def numbers_of(component: Component) -> set[int]:
    """Every offset that the component may take, its replicas' too."""
    replicas = REPLICAS if component.is_service else 1
    return {offset + replica for offset in component.ports.values() for replica in range(replicas)}


def test_no_two_ports_are_one() -> None:
    for first, second in combinations(COMPONENTS, 2):
        assert not numbers_of(first) & numbers_of(second), (first.name, second.name)
    for component in COMPONENTS:
        assert len(set(component.ports.values())) == len(component.ports), component.name


def test_a_stack_stays_inside_its_span() -> None:
    assert max(number for component in COMPONENTS for number in numbers_of(component)) < SPAN


def test_the_table_of_ports_in_the_docstring_is_the_description() -> None:
    documented: set[int] = set()
    for first, last in re.findall(r"(?<=\s)(\d{2,3})(?:-(\d+))?  (?=[a-z])", components.__doc__ or ""):
        documented |= set(range(int(first), int(last or first) + 1))
    assert documented == {number for component in COMPONENTS for number in numbers_of(component)}


def test_names_that_components_use_are_there() -> None:
    for component in COMPONENTS:
        assert {*component.needs, *component.uses} <= NAMES - {component.name}
        if isinstance(component.ready, Answers | SpeaksKafka):
            assert component.ready.port in component.ports


def test_needs_have_no_circle() -> None:
    started: set[str] = set()
    while len(started) < len(COMPONENTS):
        next_ones = {each.name for each in COMPONENTS if set(each.needs) <= started} - started
        assert next_ones, f"{NAMES - started} wait for each other"
        started |= next_ones


def test_uses_have_no_circle() -> None:
    stopped: set[str] = set()
    while len(stopped) < len(COMPONENTS):
        next_ones = {
            each.name
            for each in COMPONENTS
            if all(user.name in stopped for user in COMPONENTS if each.name in (*user.needs, *user.uses))
        } - stopped
        assert next_ones, f"{NAMES - stopped} wait for each other"
        stopped |= next_ones


SERVICE = Component(
    "pump",
    ("run", "{tool}", "{own.http}", "{replica}"),
    {"http": 5},
    Answers("http", "/readyz"),
    environment={"WHERE": "{state}", "OTHER": "{pump.http}"},
    is_service=True,
)
USER = Component("sink", ("sink",), {}, Answers("http", "/"), needs=("pump",), uses=("absent",))


def test_replicas_have_ports_folders_and_numbers_of_their_own() -> None:
    values = {"tool": "t", "data": "/d", "pump.http": "1005"}
    first, second, user = instances((SERVICE, USER), 1000, values, {"pump": 2})
    assert (first.name, second.name) == ("pump", "pump-1")
    assert first.command == ("run", "t", "1005", "0")
    assert second.command == ("run", "t", "1006", "1")
    assert second.environment == {"WHERE": "/d/pump-1", "OTHER": "1005"}
    assert user.needs == ("pump", "pump-1")
    assert user.uses == ()


@pytest.mark.parametrize(
    ("replicas", "words"),
    [({"sink": 2}, "sink is not a service"), ({"pump": 0}, "1 to 10"), ({"pump": 11}, "1 to 10"), ({"x": 1}, "x is")],
)
def test_replicas_that_can_not_be_are_named(replicas: dict[str, int], words: str) -> None:
    with pytest.raises(DescriptionError, match=words):
        instances((SERVICE, USER), 1000, {"tool": "t", "data": "/d", "pump.http": "1005"}, replicas)


def test_only_takes_exactly_those_and_names_the_unknown() -> None:
    assert [each.name for each in select(COMPONENTS, frozenset({"triton", "kafka"}))] == ["kafka", "triton"]
    assert select(COMPONENTS, None) == COMPONENTS
    with pytest.raises(DescriptionError, match="no component kafak: there are kafka,"):
        select(COMPONENTS, frozenset({"kafak"}))


def test_a_template_that_names_nothing_known_is_refused() -> None:
    with pytest.raises(DescriptionError, match=r"'no\.such'"):
        fill("{no.such}", {})


@given(st.dictionaries(st.from_regex(r"[a-z]+(\.[a-z]+)?", fullmatch=True), st.text(), min_size=1), st.data())
def test_a_template_is_its_text_with_the_names_replaced(values: dict[str, str], data: st.DataObject) -> None:
    text = st.text(st.characters(exclude_characters="{}"))
    parts = data.draw(st.lists(st.tuples(text, st.sampled_from(sorted(values)))))
    template = "".join(f"{literal}{{{name}}}" for literal, name in parts)
    assert fill(template, values) == "".join(literal + values[name] for literal, name in parts)
