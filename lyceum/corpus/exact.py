"""Exact duplicates: texts that are equal but for white space and the way accents are encoded.

Before hashing, a text is put into Unicode's composed form (NFC) and every run of white space becomes one space, with
none at the ends. Case, punctuation and everything else count. Shapes: N texts.
"""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from lyceum.corpus.ngrams import Hashes


def keys(texts: Sequence[str]) -> Hashes:
    """(N, 1): equal for equal texts, a column for `near.first_copies`.

    BLAKE2b's first 64 bits: among 10⁷ different texts, two share a key with probability 3e-6.
    """
    digests = b"".join(_digest(text) for text in texts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)[:, None]


def _digest(text: str) -> bytes:
    normal = " ".join(unicodedata.normalize("NFC", text).split())
    return hashlib.blake2b(normal.encode("utf-8", "surrogatepass"), digest_size=8).digest()
