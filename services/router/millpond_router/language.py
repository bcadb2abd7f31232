"""The language of a text, by py3langid."""

from __future__ import annotations

from py3langid.langid import MODEL_FILE, LanguageIdentifier

LOOKED_AT_CHARACTERS = 160
"""Two sentences: enough to be sure, and 0.1 ms."""

SURE = 0.8
"""The probability below which a text says nothing of its language: names, numbers, code, two or three words."""

SURE_OF_A_SCRIPT = 0.25
"""The same for a text that is not in Latin letters: which of the languages of a script it is matters less."""

LANGUAGES = (
    *("ar", "bg", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id", "it"),
    *("ja", "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "th", "tr", "uk"),
    *("vi", "zh"),
)
"""What it may be. Of all 130 that are known, small ones are often taken for English and English for them."""

ENGLISH_WORDS = frozenset(
    {
        *("the", "of", "and", "what", "how", "which", "with", "that", "this", "from", "are", "why", "does", "should"),
        *("where", "their", "your", "you", "have", "would", "because"),
    }
)
"""Words that English has in most sentences, and others hardly: two of them spare the 0.1 ms."""


class LanguageDetector:
    """Loading takes a second and 100 MB for a moment."""

    def __init__(self) -> None:
        self._identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self._identifier.set_languages(LANGUAGES)

    def language_of(self, text: str) -> str:
        """ISO 639, or "" where it is not clear."""
        start = text[:LOOKED_AT_CHARACTERS]
        if start.isascii() and len(ENGLISH_WORDS.intersection(start.lower().split())) >= 2:
            return "en"
        # Without a letter, as in a row of emoji, the bytes alone would make it some language.
        if not any(map(str.isalpha, start)):
            return ""
        language, probability = self._identifier.classify(start)
        # In UTF-8, letters of other scripts have two or three bytes.
        latin = len(start.encode()) < 1.5 * len(start)
        return language if probability >= (SURE if latin else SURE_OF_A_SCRIPT) else ""
