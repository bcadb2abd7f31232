"""A small neural network in numpy: one hidden layer, several outputs that share it. Pure.

It is small enough (half a million numbers) to be fitted and asked without a framework, in the router's own process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
"""Of float32; numpy's types lose that at the first operation."""

ADAM = (0.9, 0.999, 1e-8)
"""Source: Kingma and Ba 2015."""


@dataclass(frozen=True)
class Target:
    """What one output is to say of each row.

    values: [rows, labels], NaN throughout a row, or in a place, where it is not known. one_of: the labels exclude each
    other, and a row's values are their probabilities; otherwise each label is a probability by itself.
    weight: of this output's loss among the others'.
    """

    values: Floats
    one_of: bool
    weight: float = 1.0


@dataclass(frozen=True)
class Fitting:
    """How a network is fitted. dropped: shares of inputs and hidden units left out of each step, at random.

    smoothing: how much of a sure label goes to the others (Szegedy et al. 2016). members: networks of `hidden` units
    each, fitted from other beginnings; their outputs are averaged.
    """

    hidden: int = 512
    members: int = 1
    epochs: int = 30
    rows: int = 128
    rate: float = 1e-3
    decay: float = 1e-2
    dropped: tuple[float, float] = (0.2, 0.5)
    smoothing: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class Network:
    """first: [inputs, hidden]. outputs: (weights [hidden, labels], bias [labels]) of each, which give logits."""

    first: Floats
    bias: Floats
    outputs: Sequence[tuple[Floats, Floats]]

    def logits(self, inputs: Floats) -> list[Floats]:
        """inputs: [rows, inputs]. For each output [rows, labels]."""
        hidden = np.maximum(inputs @ self.first + self.bias, 0)
        return [hidden @ weights + bias for weights, bias in self.outputs]


def softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def entropy(chances: Floats) -> Floats:
    """[rows], of probabilities [rows, labels], in nats: the higher, the less any label stands out."""
    return -(chances * np.log(chances + 1e-9)).sum(axis=1)


def sigmoid(logits: Floats) -> Floats:
    return 0.5 * (np.tanh(0.5 * logits) + 1)


def fit(inputs: Floats, targets: Sequence[Target], how: Fitting, say: Callable[[str], None] | None = None) -> Network:
    """inputs: [rows, inputs]. The same inputs and seed give the same network on the same machine.

    Source: AdamW (Loshchilov and Hutter 2019), the rate falling in a line to nothing; dropout (Srivastava et al. 2014).
    """
    members = [_fit_one(inputs, targets, how, how.seed + number, say or _nothing) for number in range(how.members)]
    # Hidden layers side by side and outputs averaged: the ensemble is one network again.
    return Network(
        np.hstack([member.first for member in members]),
        np.concatenate([member.bias for member in members]),
        [
            (
                np.concatenate([member.outputs[place][0] for member in members]) / how.members,
                np.mean([member.outputs[place][1] for member in members], axis=0),
            )
            for place in range(len(targets))
        ],
    )


def _fit_one(inputs: Floats, targets: Sequence[Target], how: Fitting, seed: int, say: Callable[[str], None]) -> Network:
    random = np.random.default_rng(seed)
    wide = inputs.shape[1]
    sizes = [target.values.shape[1] for target in targets]
    bounds = np.cumsum([0, *sizes])
    first = _uniform(random, wide, how.hidden)
    last = _uniform(random, how.hidden, int(bounds[-1]))
    parameters = [first, np.zeros(how.hidden, np.float32), last, np.zeros(int(bounds[-1]), np.float32)]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in parameters]
    smooth = [_smoothed(target, how.smoothing) for target in targets]
    steps = how.epochs * -(-len(inputs) // how.rows)
    step = 0
    for epoch in range(how.epochs):
        order = random.permutation(len(inputs))
        for begin in range(0, len(order), how.rows):
            chosen = order[begin : begin + how.rows]
            some = _drop(inputs[chosen], how.dropped[0], random)
            before = some @ parameters[0] + parameters[1]
            kept = _drop(np.maximum(before, 0), how.dropped[1], random)
            logits = kept @ parameters[2] + parameters[3]
            error = np.empty_like(logits)
            for place, target in enumerate(targets):
                part = slice(bounds[place], bounds[place + 1])
                error[:, part] = _error(logits[:, part], smooth[place][chosen], target)
            # A unit that was dropped or is below nought passes nothing back; the others were raised by the same factor.
            back = (error @ parameters[2].T) * (kept > 0) / (1 - how.dropped[1])
            gradients = [some.T @ back, back.sum(0), kept.T @ error, error.sum(0)]
            step += 1
            rate = how.rate * (1 - step / (steps + 1))
            for parameter, gradient, moment in zip(parameters, gradients, moments, strict=True):
                _adam(parameter, gradient, moment, step=step, rate=rate, decay=how.decay)
        say(f"fitting: {epoch + 1} of {how.epochs} rounds, member {seed - how.seed + 1} of {how.members}")
    outputs = [(parameters[2][:, low:high].copy(), parameters[3][low:high].copy()) for low, high in pairwise(bounds)]
    return Network(parameters[0], parameters[1], outputs)


def _nothing(line: str) -> None:
    del line


def _uniform(random: np.random.Generator, inputs: int, outputs: int) -> Floats:
    """Source: He et al. 2015, as torch's Linear begins."""
    bound = 1 / np.sqrt(inputs)
    return random.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)


def _smoothed(target: Target, smoothing: float) -> Floats:
    if not target.one_of:
        return target.values
    return (target.values * (1 - smoothing) + smoothing / target.values.shape[1]).astype(np.float32)


def _drop(values: Floats, share: float, random: np.random.Generator) -> Floats:
    if not share:
        return values
    return values * ((random.random(values.shape, np.float32) >= share) / np.float32(1 - share))


def _error(logits: Floats, values: Floats, target: Target) -> Floats:
    """The loss's gradient at the logits: cross-entropy's, for both kinds. Nothing where the value is not known."""
    known = ~np.isnan(values)
    error = (softmax(logits) if target.one_of else sigmoid(logits)) - np.where(known, values, 0)
    rows = max(int(known.any(axis=1).sum()), 1)
    return np.where(known, error, 0).astype(np.float32) * np.float32(target.weight / rows)


def _adam(
    parameter: Floats, gradient: Floats, moment: tuple[Floats, Floats], *, step: int, rate: float, decay: float
) -> None:
    """In place."""
    mean, square = moment
    first, second, least = ADAM
    mean += (1 - first) * (gradient - mean)
    square += (1 - second) * (gradient * gradient - square)
    size = np.sqrt(square / (1 - second**step)) + least
    parameter -= rate * (mean / (1 - first**step) / size + decay * parameter)
