import pytest

from lyceum.core.errors import ConfigError
from lyceum.eval.tasks import classify


def test_snippets_become_labelled_questions_and_undecided_ones_are_left_out():
    task = classify.movie_snippets([("great", 2.5), ("dull", -1.0), ("meh", 0.9), ("odd", 0.0)])
    assert [sample.right for sample in task.samples()] == [1, 0]
    messages = task.prompt(task.samples()[0])
    assert messages[0].role == "user" and messages[0].content.endswith("\n\ngreat")
    assert [option.text for option in task.samples()[0].options] == ["Negative", "Positive"]
    assert len(classify.movie_snippets([("odd", 0.0), ("so", 0.1)], margin=0.0).samples()) == 1


def test_braces_in_a_text_are_left_alone():
    task = classify.make("t", [("{text} {0}", 0)], question="Which? {text}", labels=("a", "b"))
    assert task.samples()[0].options[0].prompt[0].content == "Which? {text} {0}"


def test_a_question_without_a_place_for_the_text_is_refused():
    with pytest.raises(ConfigError, match=r"must hold \{text\}"):
        classify.make("t", [("x", 0)], question="Which?", labels=("a", "b"))
