"""The learned heads: what an embedding and a text say of domain, task, and of how well each known model would answer.

    embedding ─┐         ┌▶ network "domains": intents, summed to domains; how surely it is none of them
    n-grams ───┼─▶ Seen ─┼▶ network "quality": the task; the field of knowledge; and, with
    counts ────┘         ├▶ boosted trees:      P(good) of each known model, calibrated
                         └▶ the expert:         the same of word problems, whose numbers the others hardly see

One file holds them, with the version of the embedder they were fitted to: vectors of another mean nothing to them.
Asking is pure; `read` and `write` touch files.
"""

from __future__ import annotations

import hashlib
import io
import json
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from millpond_router.calibration import Calibration
from millpond_router.forest import Forest
from millpond_router.lexical import BUCKETS, ngrams
from millpond_router.network import Floats, Network, entropy, sigmoid, softmax
from millpond_router.text_features import NAMES, features_of_text

FORMAT = 2
"""Of the file. Raised when what stands in it changes."""

LARGEST_BYTES = 64 << 20
"""Of a file: what is larger is something else."""

SCALES = (6.0, 4.0, 0.5)
"""Of embedding, n-grams and counts among the inputs: each part then has about the same length."""

LEXICAL_OF_TREES = 20
"""Of the n-grams' numbers, so many go to the trees: the first say most."""

CLIPPED = 4.0
"""Standard deviations: a count beyond them, as of a text of a megabyte, is taken as this."""


TREES = ("feature", "threshold", "left", "right", "value", "owner", "base")
"""A forest's arrays, as the file names them."""

EXPERT = ("mean", "spread", "counts", "vectors", "bias")
"""The expert's."""


DAMAGED = (
    *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError),
    *(
        SyntaxError,
        tokenize.TokenError,
        AttributeError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        MemoryError,
    ),
)
"""What reading a file raises that is no file of heads, or was damaged: of zipfile, and of numpy, to which an array's
header is a literal of Python."""


class HeadsError(Exception):
    """The heads cannot be used: which file, and what is wrong with it."""


@dataclass(frozen=True)
class Seen:
    """What is seen of some texts: [texts, dimension], [texts, lexical] and [texts, NAMES]."""

    vectors: Floats
    lexical: Floats
    counts: Floats


@dataclass(frozen=True)
class Inputs:
    """From texts to what networks and trees are asked with.

    weights: [BUCKETS], of n-grams by their rarity. table: int8 [BUCKETS, lexical], n-grams to a few numbers; scale:
    [lexical], what its numbers are times. mean, spread: [NAMES], of the texts that were learned from. components:
    [dimension, few], the directions in which their embeddings differ most.
    """

    weights: Floats
    table: NDArray[np.int8]
    scale: Floats
    mean: Floats
    spread: Floats
    components: Floats

    def seen(self, vectors: Floats, texts: Sequence[str]) -> Seen:
        """vectors: [texts, dimension]."""
        lexical = np.stack([self._lexical(text) for text in texts])
        return Seen(vectors, lexical, np.stack([features_of_text(text) for text in texts]))

    def of_network(self, seen: Seen) -> Floats:
        standard = np.clip((seen.counts - self.mean) / self.spread, -CLIPPED, CLIPPED)
        meaning, words, numbers = SCALES
        return np.hstack([seen.vectors * meaning, seen.lexical * words, standard * numbers]).astype(np.float32)

    def of_trees(self, seen: Seen) -> Floats:
        return np.hstack([seen.counts, seen.vectors @ self.components, seen.lexical[:, :LEXICAL_OF_TREES]])

    def _lexical(self, text: str) -> Floats:
        buckets, often = ngrams(text)
        weighted = often * self.weights[buckets]
        found = (weighted @ self.table[buckets].astype(np.float32)) * self.scale
        length = float(np.linalg.norm(found))
        return found / length if length else found


@dataclass(frozen=True)
class Labels:
    """What the outputs stand for.

    intents, subjects: with the domain and the field of knowledge of each. models: those whose answers were seen.
    """

    intents: tuple[str, ...]
    domains: tuple[str, ...]
    domain_of: tuple[int, ...]
    subjects: tuple[str, ...]
    fields: tuple[str, ...]
    field_of: tuple[int, ...]
    tasks: tuple[str, ...]
    models: tuple[str, ...]


@dataclass(frozen=True)
class Scope:
    """How unlike the texts that were learned from a text is.

    line: (weight of the intents' entropy, weight of the cosine to the nearest intent's mean, bias) of the logit that a
    text belongs to no intent. intents: [intents, dimension], those means. centres: [centres, dimension], of all the
    embeddings learned from. distances: 101 percentiles of their cosines to the nearest centre, rising.
    """

    line: tuple[float, float, float]
    intents: Floats
    centres: Floats
    distances: Floats

    def out_of_scope(self, vectors: Floats, intent_chances: Floats) -> Floats:
        entropy_weight, nearness_weight, bias = self.line
        nearest = (vectors @ self.intents.T).max(axis=1)
        return sigmoid(entropy(intent_chances) * entropy_weight + nearest * nearness_weight + bias)

    def novelty(self, vectors: Floats) -> Floats:
        nearest = (vectors @ self.centres.T).max(axis=1)
        return np.interp(nearest, self.distances, np.linspace(1, 0, len(self.distances)))


@dataclass(frozen=True)
class Expert:
    """How likely some models answer texts of one task well: a line through what is counted and meant in them.

    task, models: their places among the labels. mean, spread: [NAMES], of the task's texts. counts: [NAMES, models],
    vectors: [dimension, models], bias: [models], of the logits. It needs no calibration: its lines are that stiff.
    """

    task: int
    models: tuple[int, ...]
    mean: Floats
    spread: Floats
    counts: Floats
    vectors: Floats
    bias: Floats

    def promises(self, seen: Seen) -> Floats:
        """[texts, models], probabilities."""
        standard = np.clip((seen.counts - self.mean) / self.spread, -CLIPPED, CLIPPED)
        return sigmoid(standard @ self.counts + seen.vectors @ self.vectors + self.bias)

    def instead(self, others: Floats, tasks: Floats, seen: Seen) -> Floats:
        """The others' promises [texts, models], and its own where a text is rather of its task than of any other."""
        if not self.models:
            return others
        own, mixed = tasks[:, self.task] > 0.5, others.copy()
        mixed[:, self.models] = np.where(own[:, None], self.promises(seen), others[:, self.models])
        return mixed

    def only(self, models: Sequence[int]) -> Expert:
        """The same where these are the models, in this order."""
        kept = [place for place, model in enumerate(self.models) if model in models]
        return replace(
            self,
            models=tuple(models.index(self.models[place]) for place in kept),
            counts=self.counts[:, kept],
            vectors=self.vectors[:, kept],
            bias=self.bias[kept],
        )


@dataclass(frozen=True)
class Answers:
    """What the heads say of some texts; [texts, labels] each, probabilities.

    out_of_scope, novelty, difficulty: [texts].
    """

    labels: Labels
    version: str
    intents: Floats
    domains: Floats
    out_of_scope: Floats
    novelty: Floats
    quality: Floats
    difficulty: Floats
    tasks: Floats
    fields: Floats
    seen: Seen

    def reading(self, row: int) -> Reading:
        labels = self.labels
        domain, task = int(self.domains[row].argmax()), int(self.tasks[row].argmax())
        field = int(self.fields[row].argmax())
        beyond = float(self.out_of_scope[row])
        known = beyond < 0.5
        return Reading(
            version=self.version,
            domain=labels.domains[domain] if known else labels.fields[field],
            domain_probability=float(self.domains[row, domain] if known else self.fields[row, field]),
            task=labels.tasks[task],
            difficulty=float(self.difficulty[row]),
            out_of_scope=beyond,
            novelty=float(self.novelty[row]),
            quality=dict(zip(labels.models, map(float, self.quality[row]), strict=True)),
            counts={name: float(number) for name, number in zip(NAMES, self.seen.counts[row], strict=True) if number},
        )


@dataclass(frozen=True)
class Reading:
    """What the heads say of one text. quality: known model → P(good). The rest as in the contract's Judgement."""

    version: str
    domain: str
    domain_probability: float
    task: str
    difficulty: float
    out_of_scope: float
    novelty: float
    quality: Mapping[str, float]
    counts: Mapping[str, float]


@dataclass(frozen=True)
class Heads:
    """version: "NUMBER-HASH", the hash of the file's bytes. embedder: the version whose vectors it understands.

    quality: gives models, tasks and subjects, in this order. temperature: of the intents. calibrations: one for each
    model of `labels`. columns: the outputs of `quality` that these models are; None for all, in their order.
    """

    version: str
    embedder: str
    labels: Labels
    inputs: Inputs
    domains: Network
    quality: Network
    trees: Forest
    expert: Expert
    temperature: float
    calibrations: Sequence[Calibration]
    scope: Scope
    columns: tuple[int, ...] | None = None

    def only(self, models: Collection[str]) -> Heads:
        """The same, asked about some of its models only, which takes less time. At least one must be known."""
        places = tuple(place for place, model in enumerate(self.labels.models) if model in models)
        return replace(
            self,
            labels=replace(self.labels, models=tuple(self.labels.models[place] for place in places)),
            trees=self.trees.only(places),
            expert=self.expert.only(places),
            calibrations=[self.calibrations[place] for place in places],
            columns=places,
        )

    def ask(self, vectors: Floats, texts: Sequence[str]) -> Answers:
        """vectors: [texts, dimension] of L2 norm 1, by `embedder`. At least one text."""
        seen = self.inputs.seen(vectors, texts)
        inputs = self.inputs.of_network(seen)
        (intents,) = self.domains.logits(inputs)
        by_network, tasks, subjects = self.quality.logits(inputs)
        of_models = by_network if self.columns is None else by_network[:, self.columns]
        of_task = softmax(tasks)
        quality = (of_models + self.trees.logits(self.inputs.of_trees(seen))) / 2
        intent_probabilities = softmax(intents * np.float32(1 / self.temperature))
        promised = sigmoid(quality)
        calibrated = [line(promised[:, place]) for place, line in enumerate(self.calibrations)]
        return Answers(
            labels=self.labels,
            version=self.version,
            intents=intent_probabilities,
            domains=intent_probabilities @ _sums(self.labels.domain_of, len(self.labels.domains)),
            out_of_scope=self.scope.out_of_scope(vectors, intent_probabilities),
            novelty=self.scope.novelty(vectors),
            quality=self.expert.instead(np.stack(calibrated, axis=1).astype(np.float32), of_task, seen),
            difficulty=1 - sigmoid(by_network).mean(axis=1),
            tasks=of_task,
            fields=softmax(subjects) @ _sums(self.labels.field_of, len(self.labels.fields)),
            seen=seen,
        )


def write(heads: Heads, number: str, path: Path, about: Mapping[str, Any]) -> str:
    """Write the file; its version. about: where the heads come from and what they reached, JSON-ready."""
    arrays: dict[str, NDArray[Any]] = {
        "inputs.weights": heads.inputs.weights.astype(np.float16),
        "inputs.table": heads.inputs.table,
        "inputs.scale": heads.inputs.scale,
        "inputs.mean": heads.inputs.mean,
        "inputs.spread": heads.inputs.spread,
        "inputs.components": heads.inputs.components.astype(np.float16),
        **{f"trees.{name}": getattr(heads.trees, name) for name in TREES},
        **{f"expert.{name}": getattr(heads.expert, name) for name in EXPERT},
        "scope.distances": heads.scope.distances,
        **_small("scope.centres", heads.scope.centres.T),
        **_small("scope.intents", heads.scope.intents.T),
    }
    for name, network in (("domains", heads.domains), ("quality", heads.quality)):
        arrays |= _small(f"{name}.first", network.first)
        arrays[f"{name}.bias"] = network.bias
        for place, (weights, bias) in enumerate(network.outputs):
            arrays[f"{name}.{place}.weights"] = weights.astype(np.float16)
            arrays[f"{name}.{place}.bias"] = bias
    labels = heads.labels
    described = {
        "format": FORMAT,
        "number": number,
        "embedder": heads.embedder,
        "text_features": NAMES,
        "labels": {name: getattr(labels, name) for name in Labels.__dataclass_fields__},
        "temperature": heads.temperature,
        "expert": {"task": heads.expert.task, "models": heads.expert.models},
        "line": heads.scope.line,
        "calibrations": [{"promised": line.promised, "observed": line.observed} for line in heads.calibrations],
        "about": about,
    }
    arrays["described"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **cast(Any, arrays))
    path.write_bytes(buffer.getvalue())
    return f"{number}-{digest_of(buffer.getvalue())}"


def digest_of(content: bytes) -> str:
    """The first eight hex digits of its sha256."""
    return hashlib.sha256(content).hexdigest()[:8]


def read(path: Path) -> Heads:
    """Raises HeadsError for a file that is missing, damaged or made for other code than this."""
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise HeadsError(f"{path}: is larger than {LARGEST_BYTES} bytes: it is no file of heads")
        content = path.read_bytes()
    except OSError as failure:
        raise HeadsError(f"{path}: cannot be read: {failure.strerror}") from failure
    try:
        # Nothing in it is run: arrays of numbers only.
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        described = json.loads(arrays["described"].tobytes())
        if described["format"] != FORMAT:
            raise HeadsError(f"{path}: has format {described['format']}, and this router reads {FORMAT}")
        if tuple(described["text_features"]) != NAMES:
            raise HeadsError(f"{path}: was fitted to other text features than this router counts: fit it again")
        return _heads(arrays, described, f"{described['number']}-{digest_of(content)}")
    except DAMAGED as failure:
        raise HeadsError(f"{path}: is damaged or no file of heads: {failure}") from failure


def _heads(arrays: Mapping[str, NDArray[Any]], described: Mapping[str, Any], version: str) -> Heads:
    given = described["labels"]
    labels = Labels(**{name: tuple(given[name]) for name in Labels.__dataclass_fields__})
    inputs = Inputs(
        arrays["inputs.weights"].astype(np.float32),
        arrays["inputs.table"],
        arrays["inputs.scale"],
        arrays["inputs.mean"],
        arrays["inputs.spread"],
        arrays["inputs.components"].astype(np.float32),
    )
    if inputs.table.shape != (BUCKETS, len(inputs.scale)) or len(inputs.mean) != len(NAMES):
        raise ValueError("its tables have other shapes than this router's")
    centres = _large("scope.centres", arrays).T
    heads = Heads(
        version=version,
        embedder=described["embedder"],
        labels=labels,
        inputs=inputs,
        domains=_network("domains", arrays, 1),
        quality=_network("quality", arrays, 3),
        trees=Forest(**{name: arrays[f"trees.{name}"] for name in TREES}),
        expert=Expert(
            task=int(described["expert"]["task"]),
            models=tuple(described["expert"]["models"]),
            **{name: arrays[f"expert.{name}"] for name in EXPERT},
        ),
        temperature=float(described["temperature"]),
        calibrations=[_calibration(each) for each in described["calibrations"]],
        scope=Scope(
            line=tuple(described["line"]),
            intents=np.ascontiguousarray(_large("scope.intents", arrays).T),
            centres=np.ascontiguousarray(centres),
            distances=arrays["scope.distances"],
        ),
    )
    if len(heads.calibrations) != len(labels.models):
        raise ValueError("it has a calibration for some of its models only")
    # A file whose parts do not fit together fails here, not at the first request.
    heads.ask(np.zeros((1, centres.shape[1]), np.float32), ["word"])
    return heads


def _network(name: str, arrays: Mapping[str, NDArray[Any]], outputs: int) -> Network:
    last = [
        (arrays[f"{name}.{place}.weights"].astype(np.float32), arrays[f"{name}.{place}.bias"])
        for place in range(outputs)
    ]
    return Network(_large(f"{name}.first", arrays), arrays[f"{name}.bias"], last)


def _small(name: str, matrix: Floats) -> dict[str, NDArray[Any]]:
    """[rows, columns] as int8, with a scale for each column."""
    scale = (np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127).astype(np.float32)
    return {name: np.round(matrix / scale).astype(np.int8), f"{name}.scale": scale}


def _large(name: str, arrays: Mapping[str, NDArray[Any]]) -> Floats:
    return arrays[name].astype(np.float32) * arrays[f"{name}.scale"]


def _calibration(given: Mapping[str, Any]) -> Calibration:
    return Calibration(tuple(given["promised"]), tuple(given["observed"]))


@cache
def _sums(group_of: tuple[int, ...], groups: int) -> Floats:
    """[labels, groups]: 1 where the label belongs to the group."""
    sums = np.zeros((len(group_of), groups), np.float32)
    sums[np.arange(len(group_of)), list(group_of)] = 1
    return sums
