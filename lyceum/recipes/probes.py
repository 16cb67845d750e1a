"""What an encoder's frozen states know of a labelled text, beside what its words alone tell and what chance gives."""

from collections.abc import Mapping

import torch

from lyceum.eval.probe import Labelled, bags_of_words, linear_probe, majority, mean_states
from lyceum.model.transformer import Transformer
from lyceum.recipes.snippets import LABELS, Part, clear_snippets, label_of
from lyceum.tokenizer.tokenizer import Tokenizer


def movie_sentiment(words: Tokenizer, models: Mapping[str, Transformer]) -> dict[str, float]:
    """The share of held-out film reviews whose side a straight line tells from a model's mean state, and from words.

    7,079 clearly rated snippets, 1,000 of them held out: a stand-in for SST-2 of GLUE (arXiv:1804.07461).
    """
    parts = [clear_snippets(part) for part in (Part.TRAIN, Part.HELD_OUT)]
    labels = [torch.tensor([label_of(snippet) == LABELS[1] for snippet in part]) for part in parts]
    tokens = [[words.encode_framed(snippet.text) for snippet in part] for part in parts]
    bags = [bags_of_words(part, words.vocab_size) for part in tokens]
    bag_sides = [Labelled(vectors=bag, labels=label) for bag, label in zip(bags, labels, strict=True)]
    told = {"probe_of_words": linear_probe(*bag_sides), "probe_of_chance": majority(*bag_sides)}
    for name, model in models.items():
        limit = model.config.context_tokens
        states = [mean_states(model, [text[:limit] for text in part], list(words.special_ids)) for part in tokens]
        told[f"probe_of_{name}"] = linear_probe(
            *(Labelled(vectors=states_, labels=label) for states_, label in zip(states, labels, strict=True))
        )
    return told
