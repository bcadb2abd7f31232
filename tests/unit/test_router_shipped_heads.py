"""The heads that are shipped are small, are for the embedder that is shipped, and their card says what they know."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from millpond_core.settings import Settings
from millpond_router import head_folder
from millpond_router.evaluation import STRONG, WEAK
from millpond_router.text_features import NAMES

REPOSITORY = Path(__file__).resolve().parents[2]
CARD = (head_folder.SHIPPED / "README.md").read_text("utf-8")
LARGEST_BYTES = 5_000_000
HEADS = head_folder.read(head_folder.SHIPPED)


def test_they_are_small() -> None:
    assert sum(file.stat().st_size for file in head_folder.SHIPPED.iterdir()) < LARGEST_BYTES


def test_they_are_for_the_embedder_that_is_shipped() -> None:
    config = (REPOSITORY / "models" / "embedder" / "config.pbtxt").read_text()
    assert f'key: "version" value: {{ string_value: "{HEADS.embedder}" }}' in config


def test_their_card_names_them_and_all_that_they_know() -> None:
    assert f"`{HEADS.version}`" in CARD
    assert f"`{HEADS.embedder}`" in CARD
    labels = HEADS.labels
    for name in (*labels.domains, *labels.fields, *labels.tasks, *labels.models):
        assert f"`{name}`" in CARD


def test_the_default_models_resemble_ones_that_they_know() -> None:
    for model in Settings().models:
        assert model.resembles in HEADS.labels.models
    assert {WEAK, STRONG} <= set(HEADS.labels.models)


TEXTS = ["", "?", "word " * 100_000, "日本語のテキスト", "\U0001f600" * 50, "A. 1\nB. 2\nC. 3\nD. 4"]


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_gets_a_reading(text: str) -> None:
    reading = HEADS.ask(np.full((1, 384), 384**-0.5, np.float32), [text]).reading(0)
    assert reading.domain in {*HEADS.labels.domains, *HEADS.labels.fields}
    assert reading.quality.keys() == set(HEADS.labels.models)
    assert all(0 <= quality <= 1 for quality in reading.quality.values())
    assert reading.counts.keys() <= set(NAMES)


def test_the_card_gives_figures_beside_those_of_routers_that_look_at_nothing() -> None:
    figures = CARD.split("## What they reach")[1].split("##")[0]
    assert len(re.findall(r"^\| .* \| .* \| .* \|", figures, re.MULTILINE)) >= 8
