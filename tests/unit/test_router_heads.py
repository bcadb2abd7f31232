"""Heads: any text gets probabilities; a file says the same again, or is named; switching needs no restart."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_heads import DIMENSION, EMBEDDER, small_heads, unit

from millpond.v1 import envelope_pb2
from millpond_core.embedding import pack
from millpond_router import head_folder
from millpond_router.brain import Brain
from millpond_router.heads import HeadsError, digest_of, read, write
from millpond_router.lexical import BUCKETS, ngrams
from millpond_router.text_features import NAMES, features_of_text

HEADS = small_heads()


@given(st.text(), st.lists(st.floats(-1, 1), min_size=DIMENSION, max_size=DIMENSION))
def test_any_text_gets_probabilities(text: str, numbers: list[float]) -> None:
    answers = HEADS.ask(np.array([numbers], np.float32), [text])
    for chances in (answers.intents, answers.domains, answers.tasks, answers.fields):
        assert chances.sum() == pytest.approx(1, abs=1e-4)
    for share in (answers.quality, answers.novelty, answers.out_of_scope, answers.difficulty):
        assert ((share >= 0) & (share <= 1)).all()


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_a_text_is_judged_alike_alone_and_among_others(texts: list[str]) -> None:
    vectors = np.repeat(unit(1, 2, 3), len(texts), axis=0)
    together = HEADS.ask(vectors, texts)
    for row, text in enumerate(texts):
        assert np.allclose(together.quality[row], HEADS.ask(unit(1, 2, 3), [text]).quality[0], atol=1e-5)


@given(st.text())
def test_counts_and_ngrams_are_numbers_whatever_the_text(text: str) -> None:
    counts = features_of_text(text)
    assert counts.shape == (len(NAMES),)
    assert np.isfinite(counts).all()
    buckets, often = ngrams(text)
    assert len(buckets) == len(often)
    assert (np.diff(buckets) > 0).all()
    assert not len(buckets) or (buckets[0] >= 0 and buckets[-1] < BUCKETS)


def test_ngrams_see_words_and_not_how_they_are_set() -> None:
    assert np.array_equal(ngrams("Pay  my BILL")[0], ngrams("pay my bill")[0])
    shared = np.intersect1d(ngrams("pay my bill")[0], ngrams("pay the bill")[0])
    assert len(shared) > len(np.intersect1d(ngrams("pay my bill")[0], ngrams("what rhymes with orange")[0]))


def test_a_reading_names_a_field_where_no_domain_fits() -> None:
    answers = HEADS.ask(unit(1), ["text"])

    def reading_where(out_of_scope: float) -> str:
        return replace(answers, out_of_scope=np.array([out_of_scope], np.float32)).reading(0).domain

    assert reading_where(0.1) in HEADS.labels.domains
    assert reading_where(0.9) in HEADS.labels.fields


@pytest.mark.parametrize("models", [["weak"], ["strong"], ["strong", "weak"]])
def test_asked_about_some_models_only_they_say_the_same(models: list[str]) -> None:
    every, some = HEADS.ask(unit(1, 2), ["a text"]), HEADS.only(models).ask(unit(1, 2), ["a text"])
    assert some.difficulty == pytest.approx(every.difficulty)
    for model, quality in some.reading(0).quality.items():
        assert model in models
        assert quality == pytest.approx(every.reading(0).quality[model])


def test_the_expert_speaks_of_texts_of_its_task_and_of_no_others() -> None:
    seen = HEADS.inputs.seen(unit(1, 2), ["Tom has 3 apples and eats half of them. How many are left?"])
    others = np.array([[0.2, 0.9]], np.float32)
    own = HEADS.expert.promises(seen)
    for share in (0.0, 0.4, 0.6, 1.0):
        tasks = np.array([[1 - share, share]], np.float32)
        assert HEADS.expert.instead(others, tasks, seen) == pytest.approx(own if share > 0.5 else others)
    assert HEADS.expert.only([]).instead(others, np.ones((1, 2), np.float32), seen) is others


def shipped(folder: Path, seed: int = 0, name: str = "heads-1.npz") -> str:
    """The version of heads that are now in use in this folder."""
    version = write(small_heads(seed), "1", folder / name, {"figures": {}})
    head_folder.write_manifest(folder, name)
    return version


def test_a_file_says_the_same_again(tmp_path: Path) -> None:
    version = shipped(tmp_path)
    again = head_folder.read(tmp_path)
    assert again.version == version == f"1-{digest_of((tmp_path / 'heads-1.npz').read_bytes())}"
    assert again.embedder == EMBEDDER
    assert again.labels == HEADS.labels
    one, other = HEADS.ask(unit(1, 1), ["how do I pay"]), again.ask(unit(1, 1), ["how do I pay"])
    assert np.allclose(one.quality, other.quality, atol=0.02)
    assert np.allclose(one.intents, other.intents, atol=0.02)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "heads.npz"
    file.write_bytes(content)
    with pytest.raises(HeadsError, match=r"heads\.npz: is damaged or no file of heads"):
        read(file)


@given(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=60))
def test_a_file_with_other_bytes_somewhere_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, place: int, wrong: bytes
) -> None:
    folder = tmp_path_factory.mktemp("heads")
    file = folder / "heads.npz"
    write(small_heads(0), "1", file, {})
    content = bytearray(file.read_bytes())
    place %= len(content)
    content[place : place + len(wrong)] = wrong
    file.write_bytes(content)
    with suppress(HeadsError):
        read(file)


def test_a_file_without_one_of_its_parts_is_named(tmp_path: Path) -> None:
    shipped(tmp_path)
    with np.load(tmp_path / "heads-1.npz") as file:
        arrays = {name: file[name] for name in file.files}
    for name in arrays:
        np.savez(tmp_path / "less.npz", **{other: value for other, value in arrays.items() if other != name})
        with pytest.raises(HeadsError, match="is damaged"):
            read(tmp_path / "less.npz")


@pytest.mark.parametrize(
    ("key", "value", "line"), [("format", 99, "has format 99"), ("text_features", [], "other text features")]
)
def test_a_file_for_other_code_is_named(tmp_path: Path, key: str, value: object, line: str) -> None:
    shipped(tmp_path)
    with np.load(tmp_path / "heads-1.npz") as file:
        arrays = {name: file[name] for name in file.files}
    described = json.loads(arrays["described"].tobytes()) | {key: value}
    arrays["described"] = np.frombuffer(json.dumps(described).encode(), np.uint8)
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(HeadsError, match=line):
        read(tmp_path / "other.npz")


def test_a_file_that_is_not_the_one_that_was_named_is_not_used(tmp_path: Path) -> None:
    shipped(tmp_path)
    write(small_heads(1), "1", tmp_path / "heads-1.npz", {})
    with pytest.raises(HeadsError, match="has the hash"):
        head_folder.read(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "line"),
    [
        (None, "cannot be read"),
        ("[", "must be"),
        ("[]", "must be"),
        ('{"file": "heads-1.npz"}', "must be"),
        ('{"file": "../heads-1.npz", "sha256": ""}', "a name in this folder"),
        ('{"file": "gone.npz", "sha256": ""}', "gone.npz: cannot be read"),
        ('{"file": "heads\\u0000.npz", "sha256": ""}', "a name in this folder"),
    ],
)
def test_a_wrong_folder_is_named(tmp_path: Path, manifest: str | None, line: str) -> None:
    if manifest is not None:
        (tmp_path / "heads.json").write_text(manifest)
    with pytest.raises(HeadsError, match=line):
        head_folder.read(tmp_path)


# While a router runs


def embeddings(version: str = EMBEDDER) -> list[envelope_pb2.Embedding | None]:
    return [pack(unit(1)[0], version, 3), None]


def test_new_heads_take_over_without_a_restart_and_broken_ones_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = shipped(tmp_path)
    brain = Brain(tmp_path)
    brain.look()
    reading, missing = brain.readings(["text", "other"], embeddings())
    assert reading is not None
    assert (reading.version, missing) == (first, None)

    second = shipped(tmp_path, seed=1, name="heads-2.npz")
    brain.look()
    assert brain.heads is not None
    assert brain.heads.version == second != first

    (tmp_path / "heads-3.npz").write_bytes(b"no heads")
    head_folder.write_manifest(tmp_path, "heads-3.npz")
    brain.look()
    assert brain.heads.version == second
    assert "heads-3.npz: is damaged" in caplog.text

    head_folder.write_manifest(tmp_path, "heads-1.npz")
    brain.look()
    assert brain.heads.version == first


@pytest.mark.parametrize("has_file", [False, True])
def test_without_heads_that_can_be_used_nothing_is_known_and_the_log_says_why(
    tmp_path: Path, has_file: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    if has_file:
        (tmp_path / "heads.npz").write_bytes(b"no heads")
        head_folder.write_manifest(tmp_path, "heads.npz")
    brain = Brain(tmp_path)
    brain.look()
    assert brain.readings(["text", "other"], embeddings()) == [None, None]
    assert "the rules go on alone" in caplog.text
    assert ("heads.npz: is damaged" in caplog.text) == has_file


def test_models_that_the_heads_do_not_know_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shipped(tmp_path)
    labels = {"domains": {"banking", "bankin"}, "tasks": {"sing"}}
    brain = Brain(tmp_path, models={"weak", "unheard-of"}, labels=labels)
    brain.look()
    for stranger in ("unheard-of", "bankin", "sing"):
        assert f"know no {stranger}," in caplog.text
    reading, _ = brain.readings(["text", "other"], embeddings())
    assert reading is not None
    assert reading.quality.keys() == {"weak"}


def test_another_embedders_vectors_are_not_understood_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shipped(tmp_path)
    brain = Brain(tmp_path)
    brain.look()
    for _ in range(3):
        assert brain.readings(["text", "other"], embeddings("another-embedder")) == [None, None]
    assert caplog.text.count("is for the embedder small-embedder-1, and the embedder is another-embedder") == 1
