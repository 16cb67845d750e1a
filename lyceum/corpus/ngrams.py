"""Words of many texts and the hashes of their n-grams, by numpy: no Python step per word.

What counts as a word: a run of letters, marks and numbers of any script, in lower case, so neither punctuation, case
nor white space tells two texts apart. Scripts written without spaces (Chinese, Thai, …) have words of one character.

A slice of values is hashed as a polynomial over 2⁶⁴, from prefix sums (Karp & Rabin 1987, "Efficient randomized
pattern-matching algorithms"), then mixed by SplitMix64's finalizer (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators"): integers only, so the hashes are the same on every machine.
Shapes: C characters, W words, S slices, N texts.
"""

import functools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai and Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # Chinese characters, and two more stretches of them
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
LAST_LETTER = 0x3FFFF  # what comes after has no letters: variants of glyphs, and characters of private use
ALONE = 1 << 31  # marks a character that is a word by itself
BASE = 0x9E3779B97F4A7C15  # of the polynomial; odd, so it has an inverse
CHUNK_CHARACTERS = 1 << 16  # texts hashed together: what is made of them stays in the processor's caches
CHUNK_SLICES = 1 << 14  # of a long text, hashed together

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of N texts, one after the other."""

    hashes: Hashes  # (W,)
    starts: Places  # (W,) each word's first character in its own text
    ends: Places  # (W,) one past its last
    bounds: Places  # (N + 1,) text i has the words bounds[i]:bounds[i + 1]


@dataclass(frozen=True, kw_only=True)
class Ngrams:
    """The n-grams of N texts, one after the other; a text of fewer words, if it has any, has one of all of them."""

    hashes: Hashes  # (S,)
    first: Places  # (S,) the first word of each
    last: Places  # (S,) one past its last word
    bounds: Places  # (N + 1,) text i has the n-grams bounds[i]:bounds[i + 1]


def words(texts: Sequence[str]) -> Words:
    """Hash and place of every word. `["Ab, c", "ab"]` has three words, of which the first and the third are equal."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    begins = np.concatenate([[0], np.cumsum(lengths + 1)])  # a line break keeps texts apart
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    folded = _folding()[codes]  # (C,)
    inside = np.zeros(len(folded) + 2, dtype=bool)
    inside[1:-1] = folded != 0
    edges = inside[1:] != inside[:-1]
    alone = np.flatnonzero(folded >= ALONE)
    edges[alone] = True
    edges[alone + 1] = True
    places = np.flatnonzero(edges)
    is_word = inside[places + 1]  # the stretch after the edge; what follows the last edge is none
    starts = places[is_word]
    ends = places[1:][is_word[:-1]]
    bounds = np.searchsorted(starts, begins)
    shift = np.repeat(begins[:-1], np.diff(bounds))
    hashes = hash_slices(folded, starts, ends)
    return Words(hashes=hashes, starts=starts - shift, ends=ends - shift, bounds=bounds)


def ngrams(found: Words, count: int) -> Ngrams:
    """All n-grams of `count` words within each text. 4 words have three 2-grams; 1 word has one, of itself."""
    per_text = np.diff(found.bounds)
    grams = np.where(per_text == 0, 0, np.maximum(per_text - count + 1, 1))
    bounds = np.concatenate([[0], np.cumsum(grams)])
    first = np.arange(bounds[-1]) + np.repeat(found.bounds[:-1] - bounds[:-1], grams)
    last = first + np.repeat(np.minimum(per_text, count), grams)
    return Ngrams(hashes=hash_slices(found.hashes, first, last), first=first, last=last, bounds=bounds)


def chunks(texts: Sequence[str], characters: int = CHUNK_CHARACTERS) -> Iterator[tuple[int, Sequence[str]]]:
    """Neighbouring texts of up to `characters` together, with the number of the first; a longer text comes alone.

    A long text takes about 30 bytes of memory a character while its words are hashed.
    """
    begin, room = 0, characters
    for number, text in enumerate(texts):
        if number > begin and len(text) > room:
            yield begin, texts[begin:number]
            begin, room = number, characters
        room -= len(text)
    if begin < len(texts):
        yield begin, texts[begin:]


def hash_slices(values: NDArray[np.unsignedinteger], starts: Places, ends: Places) -> Hashes:
    """mix(Σ values[start + i] BASEⁱ) of each slice values[start:end], modulo 2⁶⁴; the slices in the order of starts."""
    hashes = np.empty(len(starts), dtype=np.uint64)
    for at in range(0, len(starts), CHUNK_SLICES):
        origin = starts[at]
        first, last = starts[at : at + CHUNK_SLICES] - origin, ends[at : at + CHUNK_SLICES] - origin
        part = values[origin : origin + last.max()]
        power, inverse = _powers(max(1 << len(part).bit_length(), 2 * CHUNK_CHARACTERS))
        sums = np.zeros(len(part) + 1, dtype=np.uint64)
        np.cumsum(part * power[: len(part)], out=sums[1:])
        hashes[at : at + CHUNK_SLICES] = (sums[last] - sums[first]) * inverse[first]
    return mix(hashes)


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all others, one to one: the finalizer of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@functools.lru_cache(maxsize=2)
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """BASEⁱ and BASE⁻ⁱ for i below `count`: one table for all, but where a word is longer than a chunk."""
    both = np.full((2, count), BASE, dtype=np.uint64)
    both[1] = pow(BASE, -1, 1 << 64)
    both[:, 0] = 1
    power, inverse = np.cumprod(both, axis=1, dtype=np.uint64)
    return power, inverse


@functools.cache
def _folding() -> NDArray[np.uint32]:
    """For every code point its lower case if it may stand in a word, marked if it does so alone, else 0."""
    folding = np.arange(0x110000, dtype=np.uint32)
    folding[LAST_LETTER + 1 :] = 0
    for code in range(LAST_LETTER + 1):
        character = chr(code)
        lower = character.lower()
        is_in_word = unicodedata.category(character)[0] in "LMN"
        folding[code] = (ord(lower) if len(lower) == 1 else code) if is_in_word else 0
    for start, end in UNSPACED:
        part = folding[start : end + 1]
        part[part != 0] |= ALONE
    return folding
