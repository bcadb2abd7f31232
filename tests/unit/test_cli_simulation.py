"""Laws of the simulation: whatever arrives is answered once, and no engine is faster than its profile."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from millpond.v1.request_pb2 import TIER_OVERNIGHT, TIER_REALTIME, TIER_STANDARD
from millpond_batcher.plan import Policy, Window
from millpond_cli.__main__ import app
from millpond_cli.errors import CommandError
from millpond_cli.simulation import trace
from millpond_cli.simulation.engine import BULK_SHARE, Running, SimulatedEngine
from millpond_cli.simulation.engine_profile import EngineProfile
from millpond_cli.simulation.fit import Run, fitted
from millpond_cli.simulation.simulation import Outcome, Simulation, believed, figures, learned, least_replicas
from millpond_cli.simulation.trace import Arrival

REPOSITORY = Path(__file__).resolve().parents[2]

BATCHED_TOKENS = EngineProfile.model_fields["batched_tokens"].default
"""A profile that is found has it."""

POLICY = Policy(
    {TIER_REALTIME: Window(16, 0), TIER_STANDARD: Window(64, 1), TIER_OVERNIGHT: Window(64, 10)},
    {TIER_REALTIME: 30.0, TIER_STANDARD: 3600.0, TIER_OVERNIGHT: 43200.0},
    margin_s=1,
    reserved_rows=2,
    refill_rows=4,
)

arrivals = st.lists(
    st.builds(
        Arrival,
        at_s=st.floats(0, 60),
        tier=st.sampled_from(["realtime", "standard", "overnight"]),
        tenant=st.sampled_from(["acme", "globex"]),
        prompt_tokens=st.integers(1, 600),
        output_tokens=st.integers(1, 80),
    ),
    min_size=1,
    max_size=40,
).map(lambda each: sorted(each, key=lambda arrival: arrival.at_s))

profiles = st.builds(
    EngineProfile,
    step_s=st.floats(0.001, 0.1),
    row_step_s=st.floats(0, 0.01),
    prompt_token_s=st.floats(0, 0.001),
    rows=st.integers(1, 16),
    urgent_rows=st.sampled_from([0, 4]),
    batched_tokens=st.integers(32, 512),
)


def run(those: Sequence[Arrival], profile: EngineProfile, replicas: int = 1) -> Outcome:
    return Simulation(those, profile, replicas, POLICY, 1_760_000_000, believed(profile, POLICY)).run()


@given(arrivals, profiles, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_whatever_arrives_is_answered_once_with_all_its_tokens(
    those: Sequence[Arrival], profile: EngineProfile, replicas: int
) -> None:
    outcome = run(those, profile, replicas)
    answered = {word: len(times) for word, times in outcome.latencies_s.items() if times}
    assert answered == Counter(arrival.tier for arrival in those)
    assert outcome.tokens == sum(arrival.output_tokens for arrival in those)
    assert outcome.served_tokens.total() == sum(each.prompt_tokens + each.output_tokens for each in those)


@given(arrivals, profiles)
@settings(max_examples=40, deadline=None)
def test_no_answer_is_faster_than_its_own_steps_and_no_engine_busier_than_the_time(
    those: Sequence[Arrival], profile: EngineProfile
) -> None:
    outcome = run(those, profile)
    least_s = min(arrival.output_tokens for arrival in those) * profile.step_s
    assert all(seconds >= least_s * 0.999 for times in outcome.latencies_s.values() for seconds in times)
    assert outcome.busy_s <= outcome.end_s * 1.001
    assert outcome.busy_s >= max(arrival.output_tokens for arrival in those) * profile.step_s * 0.999


def test_an_engine_whose_rows_wait_inside_it_is_given_fewer_at_a_time_as_by_the_batcher() -> None:
    """A full engine of these reads prompts for six seconds; one with fewer rows writes fewer tokens a second."""
    profile = EngineProfile(step_s=0.01, row_step_s=0.001, prompt_token_s=0.001)
    flood = [Arrival(at_s=0, prompt_tokens=100, output_tokens=200) for _ in range(192)]
    patient, impatient = (
        Simulation(flood, profile, 1, POLICY, 1_760_000_000, believed(profile, POLICY, target_s)).run()
        for target_s in (10.0, 0.5)
    )
    assert len(patient.seconds) == len(impatient.seconds) == len(flood)
    assert impatient.end_s > patient.end_s


def test_what_the_batcher_has_learned_of_an_engine_is_what_rows_take_in_it_when_it_is_full() -> None:
    """Not what one takes by itself: the others' prompts are read between its tokens."""
    profile = EngineProfile(step_s=0.01, row_step_s=0.001, prompt_token_s=0.002)
    crowd = [Arrival(at_s=0, prompt_tokens=100, output_tokens=50) for _ in range(192)]
    cost = learned(crowd, profile, POLICY, 10.0).costs.bulk.cost
    prompt_s, answer_s = profile.prompt_token_s * 100, profile.seconds(profile.rows, 0) * 50
    assert 1.5 * (prompt_s + answer_s) < cost.mean_s(100, 50, profile.rows) < 1.5 * (profile.rows * prompt_s + answer_s)


def test_one_row_takes_what_its_profile_says() -> None:
    profile = EngineProfile(step_s=0.01, row_step_s=0.001, prompt_token_s=0.0005, batched_tokens=100, overhead_s=0.5)
    outcome = run([Arrival(at_s=0, tier="realtime", prompt_tokens=250, output_tokens=21)], profile)
    # Three steps read the prompt, and the last of them writes the first token.
    expected = 3 * 0.01 + 250 * 0.0005 + 20 * 0.011 + 0.5
    (took,) = outcome.latencies_s["realtime"]
    assert abs(took - expected) < 1e-4


def test_urgent_rows_are_nearly_as_fast_beside_a_full_batch_where_they_have_one_of_their_own() -> None:
    flood = [Arrival(at_s=0, tier="standard", prompt_tokens=10, output_tokens=400) for _ in range(64)]
    urgent = Arrival(at_s=5, tier="realtime", prompt_tokens=10, output_tokens=50)
    own = EngineProfile(step_s=0.01, row_step_s=0.001, prompt_token_s=0, urgent_rows=4)
    shared = own.model_copy(update={"urgent_rows": 0})
    (alone,) = run([urgent], own).latencies_s["realtime"]
    (beside,) = run([*flood, urgent], own).latencies_s["realtime"]
    (without,) = run([*flood, urgent], shared).latencies_s["realtime"]
    assert beside < 1.5 * alone
    assert without > 4 * alone


def test_the_share_of_the_others_is_the_generators() -> None:
    """What nice 10 weighs, the simulation says by heart: 1.25 times less for each step from 0, as sched(7) has it."""
    said = (REPOSITORY / "models" / "generator" / "config.pbtxt").read_text()
    found = re.search(r'key: "nice" value: \{ string_value: "(\d+)" \}', said)
    assert found is not None
    assert abs(BULK_SHARE - 1 / (1 + 1.25 ** int(found[1]))) < 0.001


def test_the_others_lose_what_urgent_rows_take_and_no_more() -> None:
    flood = [Arrival(at_s=0, tier="standard", prompt_tokens=10, output_tokens=400) for _ in range(64)]
    urgent = [Arrival(at_s=1 + place, tier="realtime", prompt_tokens=10, output_tokens=20) for place in range(10)]
    profile = EngineProfile(step_s=0.01, row_step_s=0.001, prompt_token_s=0, urgent_rows=4)
    alone, beside = run(flood, profile), run([*flood, *urgent], profile)
    later_s = max(beside.latencies_s["standard"]) - max(alone.latencies_s["standard"])
    assert later_s == pytest.approx(len(urgent) * 20 * profile.seconds(1, 0), rel=0.1)
    assert beside.busy_s == pytest.approx(alone.busy_s + later_s, rel=0.01)


def test_a_step_of_the_simulated_engine_holds_what_the_shipped_generators_does() -> None:
    shipped = (REPOSITORY / "models" / "generator" / "config.pbtxt").read_text()
    assert f'key: "max_batched_tokens" value: {{ string_value: "{BATCHED_TOKENS}" }}' in shipped


@given(profiles)
@settings(deadline=None)
def test_a_profile_is_found_from_windows_that_ran(profile: EngineProfile) -> None:
    """They ran on the simulated engine itself: prompts of many lengths, some of them longer than a step holds."""
    profile = profile.model_copy(update={"rows": 64, "batched_tokens": BATCHED_TOKENS})
    shapes = [([[30] * rows], 48) for rows in (1, 8, 64)] + [([[40, 600, 90]], 24), ([[200] * 64, [10] * 3], 24)]
    runs = [Run(windows, tokens, took_s(windows, tokens, profile)) for windows, tokens in shapes]
    found = fitted("found", runs, profile.rows, profile.urgent_rows)
    assert found.urgent_rows == profile.urgent_rows
    assert abs(found.step_s - profile.step_s) < 1e-6
    assert abs(found.row_step_s - profile.row_step_s) < 1e-6
    assert abs(found.prompt_token_s - profile.prompt_token_s) < 1e-6


def took_s(windows: Sequence[Sequence[int]], tokens: int, profile: EngineProfile) -> float:
    environment = simpy.Environment()
    engine = SimulatedEngine(environment, profile)
    for prompts in windows:
        for prompt in prompts:
            engine.take(Running(prompt, tokens, urgent=False, done=lambda _: None))
        environment.run()
    return environment.now


@given(arrivals, profiles)
@settings(max_examples=40, deadline=None)
def test_what_an_engine_was_busy_with_is_what_its_time_went_to(
    those: Sequence[Arrival], profile: EngineProfile
) -> None:
    environment = simpy.Environment()
    engine = SimulatedEngine(environment, profile)
    for each in those:
        engine.take(Running(each.prompt_tokens, each.output_tokens, each.tier == "realtime", lambda _: None))
    environment.run()
    work = engine.work
    assert work.prompt_tokens == sum(each.prompt_tokens for each in those)
    # The step that reads the last of a prompt writes the first token.
    assert work.row_steps == sum(each.output_tokens - 1 for each in those)
    spent_s = (
        work.steps * profile.step_s + work.row_steps * profile.row_step_s + work.prompt_tokens * profile.prompt_token_s
    )
    assert engine.busy_s == pytest.approx(spent_s)


@given(st.integers(1, 5000), st.integers(1, 4096))
def test_the_fewest_replicas_that_hold_are_found(needed: int, most: int) -> None:
    assert least_replicas(lambda count: count >= needed, most) == (needed if needed <= most else None)


PROFILE: dict[str, Any] = {"step_s": 0.01, "row_step_s": 0.001, "prompt_token_s": 0.0005}


def test_the_command_writes_what_it_found(tmp_path: Path) -> None:
    profile, requests, figures_file = tmp_path / "engine.json", tmp_path / "trace.jsonl", tmp_path / "figures.json"
    profile.write_text(json.dumps(PROFILE))
    line = {"at_s": 1, "tier": "standard", "prompt_tokens": 100, "output_tokens": 20}
    requests.write_text("\n".join(json.dumps({**line, "at_s": second}) for second in range(20)))
    command = ["simulate", "--engine-profile", str(profile), "--trace", str(requests), "--target", "0.99"]
    result = CliRunner().invoke(app, [*command, "--json", str(figures_file)])
    assert result.exit_code == 0, result.output
    written = json.loads(figures_file.read_text())
    assert written["tiers"]["standard"]["requests"] == 20
    assert written["replicas_needed"] == 1
    assert written["targets"][0]["value"] == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"at_s": 1}', "line 2: prompt_tokens"),
        ("nonsense", "line 2 is not JSON"),
        ('{"at_s": 1e999, "prompt_tokens": 1, "output_tokens": 1}', "line 2: at_s"),
        ("[" * 100_000, "line 2 is nested too deeply"),
        ('{"at_s": -1}', "line 2: at_s"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str, told: str) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text('{"at_s": 1, "prompt_tokens": 1, "output_tokens": 1}\n' + line)
    with pytest.raises(CommandError, match=told):
        trace.read(file)


@pytest.mark.parametrize("text", ["standard", "standard=x", "fast=1", "standard=0", "standard=nan"])
def test_a_rate_that_is_none_is_named(text: str) -> None:
    with pytest.raises(CommandError, match=re.escape(f"--rate {text}")):
        trace.rates([text])


def test_the_same_seed_makes_the_same_requests() -> None:
    rates = trace.rates(["standard=2", "realtime=1"])
    assert trace.made_up(rates, 60, 100, 20, 1) == trace.made_up(rates, 60, 100, 20, 1)
    assert trace.made_up(rates, 60, 100, 20, 1) != trace.made_up(rates, 60, 100, 20, 2)


def test_figures_of_nothing_late_are_whole() -> None:
    outcome = run([Arrival(at_s=0, prompt_tokens=10, output_tokens=10)], EngineProfile(**PROFILE))
    found = figures(outcome, 1, EngineProfile(**PROFILE, usd_per_hour=3600))
    assert found["tiers"]["standard"]["hit_rate"] == 1
    assert found["usd"] == pytest.approx(outcome.end_s, abs=1e-3)


def test_a_request_that_no_batch_may_hold_is_named_and_not_lost(tmp_path: Path) -> None:
    profile, requests = tmp_path / "engine.json", tmp_path / "trace.jsonl"
    profile.write_text(json.dumps(PROFILE))
    lengths = ((1, 66_000, 20), (2, 9, 9))
    lines = [{"at_s": at_s, "prompt_tokens": prompt, "output_tokens": output} for at_s, prompt, output in lengths]
    requests.write_text("\n".join(map(json.dumps, lines)))
    result = CliRunner().invoke(app, ["simulate", "--engine-profile", str(profile), "--trace", str(requests)])
    assert isinstance(result.exception, CommandError)
    assert "a standard request has 66000 + 20 tokens" in str(result.exception)


@given(arrivals, profiles, st.integers(1, 3), st.integers(700, 2000))
def test_the_engines_never_hold_more_tokens_than_they_may(
    those: Sequence[Arrival], profile: EngineProfile, replicas: int, tokens: int
) -> None:
    simulation = Simulation(those, profile, replicas, POLICY, 1_760_000_000, believed(profile, POLICY), tokens)
    assert sum(map(len, simulation.run().latencies_s.values())) == len(those)


@pytest.mark.parametrize("duration_s", [1e9, float("inf")])
def test_more_requests_than_memory_holds_are_not_made_up(duration_s: float) -> None:
    with pytest.raises(CommandError, match="are simulated at most"):
        trace.made_up(trace.rates(["standard=1", "realtime=2"]), duration_s, 200, 64, 1)
