"""Reads and checks a request's sampling parameters. Pure: no engine, no Triton.

Source: the names, ranges and meanings are those of vLLM's SamplingParams, which Triton's vLLM backend takes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any

DEFAULT_MAX_TOKENS = 128
"""Tokens of output when a request names no bound; vLLM's own default of 16 cuts nearly every answer."""

MAX_STOPS = 16
MAX_STOP_CHARACTERS = 256
"""Stop strings are looked for after every token, so their number and length are bounded."""

SEED_LIMIT = 1 << 63
"""Seeds are 63 bits: what both engines take."""


class InvalidParams(ValueError):
    """The parameters cannot be used; the message names the parameter and what it may be."""


@dataclass(frozen=True)
class Sampling:
    """How one row is sampled. temperature 0 is greedy. seed None asks for another sample every time.

    logprobs: whether the tokens' log-probabilities are wanted.
    """

    max_tokens: int = DEFAULT_MAX_TOKENS
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    ignore_eos: bool = False
    logprobs: int = 0

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


def parse(text: str | bytes, max_output_tokens: int) -> Sampling:
    """Sampling parameters from a JSON object; an empty text is the defaults.

    max_output_tokens: the most that max_tokens may be; the default is lowered to it.
    Raises InvalidParams for anything else than an object of known names and values in range: a parameter that was
    silently left out would give an answer that the caller did not ask for.
    """
    given = _object(text)
    known = _integers(given, max_output_tokens) | _floats(given) | _rest(given)
    if unknown := sorted(set(given) - set(known) - {"n"}):
        raise InvalidParams(f"unknown parameter {unknown[0]}")
    if given.get("n", 1) != 1:
        raise InvalidParams("n must be 1")
    defaults = Sampling(max_tokens=min(DEFAULT_MAX_TOKENS, max_output_tokens))
    sampling = replace(defaults, **{name: value for name, value in known.items() if given.get(name) is not None})
    if sampling.min_tokens > sampling.max_tokens:
        raise InvalidParams("min_tokens must not be more than max_tokens")
    return sampling


def _object(text: str | bytes) -> dict[str, Any]:
    if not text:
        return {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise InvalidParams("sampling_parameters is not JSON") from failure
    if not isinstance(given, dict):
        raise InvalidParams("sampling_parameters is not a JSON object")
    return given


def _integers(given: dict[str, Any], max_output_tokens: int) -> dict[str, Any]:
    ranges = {
        "max_tokens": (1, max_output_tokens),
        "min_tokens": (0, max_output_tokens),
        "top_k": (-1, 1 << 31),
        "seed": (0, SEED_LIMIT - 1),
        # vLLM gives so many candidates for each token; here there is the one that was taken.
        "logprobs": (0, 1),
    }
    values: dict[str, Any] = {}
    for name, (low, high) in ranges.items():
        value = given.get(name)
        # A bool is an int in Python, but not to whoever wrote the request.
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high):
            raise InvalidParams(f"{name} must be a whole number from {low} to {high}")
        values[name] = value
    # vLLM takes 0 and -1 for no bound.
    values["top_k"] = max(values["top_k"] or 0, 0)
    return values


def _floats(given: dict[str, Any]) -> dict[str, Any]:
    ranges = {
        "temperature": (0.0, 100.0, "from 0 to 100"),
        "top_p": (math.ulp(0.0), 1.0, "above 0 and at most 1"),
        "presence_penalty": (-2.0, 2.0, "from -2 to 2"),
        "frequency_penalty": (-2.0, 2.0, "from -2 to 2"),
        "repetition_penalty": (math.ulp(0.0), 100.0, "above 0 and at most 100"),
    }
    values: dict[str, Any] = {}
    for name, (low, high, words) in ranges.items():
        value = given.get(name)
        # NaN is in no range, so the comparison refuses it too.
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high
        ):
            raise InvalidParams(f"{name} must be a number {words}")
        values[name] = None if value is None else float(value)
    return values


def _rest(given: dict[str, Any]) -> dict[str, Any]:
    ignore_eos = given.get("ignore_eos")
    if ignore_eos is not None and not isinstance(ignore_eos, bool):
        raise InvalidParams("ignore_eos must be true or false")
    stop = given.get("stop")
    stops = [stop] if isinstance(stop, str) else [] if stop is None else stop
    if not isinstance(stops, list) or len(stops) > MAX_STOPS:
        raise InvalidParams(f"stop must be a string or at most {MAX_STOPS} strings")
    for each in stops:
        if not isinstance(each, str) or not 1 <= len(each) <= MAX_STOP_CHARACTERS:
            raise InvalidParams(f"a stop string has 1 to {MAX_STOP_CHARACTERS} characters")
    return {"ignore_eos": ignore_eos, "stop": tuple(stops)}
