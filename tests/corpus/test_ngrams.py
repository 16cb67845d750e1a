"""Words and n-grams by numpy are those of plain Python, whatever the text and however texts are put together."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lyceum.corpus.ngrams import Ngrams, chunks, ngrams, words
from tests.corpus import slow_overlap

TEXTS = st.lists(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("ab .,\n中の")), max_size=40), max_size=6)


def hashes(texts: list[str], count: int) -> list[list[int]]:
    found = ngrams(words(texts), count)
    return [found.hashes[start:end].tolist() for start, end in zip(found.bounds, found.bounds[1:], strict=False)]


@settings(max_examples=60)
@given(texts=TEXTS, count=st.integers(1, 4))
def test_hashes_are_those_of_plain_python(texts: list[str], count: int) -> None:
    assert hashes(texts, count) == [[slow_overlap.gram_hash(g) for g in slow_overlap.grams(t, count)] for t in texts]


@settings(max_examples=60)
@given(texts=TEXTS)
def test_places_are_those_of_plain_python(texts: list[str]) -> None:
    found = words(texts)
    places = list(zip(found.starts.tolist(), found.ends.tolist(), strict=True))
    assert places == [(start, end) for text in texts for _, start, end in slow_overlap.words(text)]


@settings(max_examples=60)
@given(texts=TEXTS)
def test_a_text_is_hashed_the_same_alone_and_in_company(texts: list[str]) -> None:
    assert hashes(texts, 2) == [hashes([text], 2)[0] for text in texts]


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        ("The cat, sat!", "the  CAT\n“sat”", True),
        ("naïve Straße ΣΟΦΟΣ", "NAÏVE straße σοφοσ", True),
        ("the cats at", "the cat sat", False),
        ("a b c", "c b a", False),
        ("中文字", "中 文 字", True),
        ("中文字", "中文学", False),
        ("well done🙂!", "Well 🎉 done", True),
        ("हिन्दी भाषा", "हिन्दी, भाषा", True),
    ],
)
def test_what_tells_two_texts_apart(left: str, right: str, is_same: bool) -> None:
    assert (hashes([left], 9) == hashes([right], 9)) is is_same


def test_the_hash_of_an_english_text_never_changes() -> None:
    assert hashes(["The quick brown fox"], 3) == [
        [14409928187130518232, 14806845308163996361]
    ]  # kept corpora rely on it


@pytest.mark.parametrize("characters", [1, 7, 1000])
def test_chunks_hold_every_text_once_in_order(characters: int) -> None:
    texts = ["", "abc", "x" * 50, "", "de", "f"]
    assert [text for _, some in chunks(texts, characters) for text in some] == texts
    assert [number for number, _ in chunks(texts, characters)] == sorted({n for n, _ in chunks(texts, characters)})
    assert all(len(some) == 1 or sum(map(len, some)) <= characters for _, some in chunks(texts, characters))


def test_a_text_longer_than_every_table_is_hashed_like_its_parts() -> None:
    text = "one two three four " * 20_000  # 380,000 characters
    found: Ngrams = ngrams(words([text]), 5)
    assert len(found.hashes) == 80_000 - 4
    assert len(set(found.hashes.tolist())) == 4
