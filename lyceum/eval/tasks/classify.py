"""Labels as choices of a chat reply: which label the assistant finds likeliest as its whole answer."""

from collections.abc import Iterable

from lyceum.core.errors import ConfigError
from lyceum.eval.task import Option, Sample
from lyceum.eval.tasks.choice import Choice, Metric
from lyceum.tokenizer.chat import Message


def make(
    name: str,
    labelled: Iterable[tuple[str, int]],
    *,
    question: str,
    labels: tuple[str, ...],
    metric: Metric = Metric.ACC,
) -> Choice:
    """A task from texts and the numbers of their labels; `question` says where the text goes with {text}."""
    if "{text}" not in question:
        raise ConfigError(f"question is {question!r}; it must hold {{text}}, where the text to classify goes")
    samples = []
    for number, (text, label) in enumerate(labelled):
        messages = (Message(role="user", content=question.replace("{text}", text)),)
        options = tuple(Option(prompt=messages, text=option) for option in labels)
        samples.append(Sample(id=str(number), options=options, right=label))
    return Choice(name=name, metric=metric, all=tuple(samples))
