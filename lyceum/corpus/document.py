"""The one thing every part of the corpus takes and gives."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text on its way through the corpus."""

    text: str
    origin: str  # where it is from: file and place in it, "books/a.jsonl#17"
    source: str = ""  # the mix's name of where it is from
