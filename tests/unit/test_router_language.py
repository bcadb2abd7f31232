"""The language of a text, or none where it is not clear."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond_router.language import LANGUAGES, LanguageDetector

DETECTOR = LanguageDetector()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("Summarise: Return True if name is a reserved keyword.", "en"),
        ("Fasse den folgenden Text in einem Satz zusammen.", "de"),
        ("Quelle est la capitale de la France ?", "fr"),
        ("日本の首都はどこですか？", "ja"),
        ("Какая столица у Франции?", "ru"),
        ("", ""),
        ("2 + 2", ""),
        ("os.path.join", ""),
        ("🦆🪷🐸", ""),
    ],
)
def test_it_is_known_where_it_is_clear(text: str, language: str) -> None:
    assert DETECTOR.language_of(text) == language


@given(st.text())
def test_any_text_has_one_or_none(text: str) -> None:
    assert DETECTOR.language_of(text) in ("", *LANGUAGES)
