import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lyceum.catalog import sources
from lyceum.cli import partner
from lyceum.cli.main import main
from lyceum.cli.talk import DEFAULT_MODEL, model_and_prompt, refuse_unknown
from lyceum.core.errors import ConfigError
from lyceum.core.run import Run
from lyceum.serve.terminal_session import Partner
from tests.fakes import FakeEngine, letters, render_plainly


@dataclass(frozen=True)
class FakeTokenizer:
    def encode_framed(self, text: str) -> list[int]:
        return list(letters(text))


@dataclass(frozen=True)
class FakeLoaded:
    name: str
    tokenizer: FakeTokenizer = FakeTokenizer()

    def engine(self) -> FakeEngine:
        return FakeEngine(lambda prompt: prompt.upper())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace every model by a fake; the names asked for."""
    names: list[str] = []

    def fake_partner(reference: str) -> Partner:
        names.append(reference)
        engine = FakeEngine(lambda prompt: f"<{prompt}>", context_tokens=200)
        return Partner(name=reference, engine=engine, render=render_plainly, context_tokens=200, num_parameters=3)

    monkeypatch.setattr(partner, "open_partner", fake_partner)
    monkeypatch.setattr(partner, "open_model", FakeLoaded)
    monkeypatch.setattr(partner, "prepare", lambda reference: None)
    return names


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Put a text into a pipe that stands for stdin."""
    with contextlib.ExitStack() as stack:

        def put(text: str) -> None:
            source, target = os.pipe()
            os.write(target, text.encode())
            os.close(target)
            monkeypatch.setattr("sys.stdin", stack.enter_context(os.fdopen(source)))

        yield put


@pytest.fixture(autouse=True)
def a_run(tmp_path: Path) -> Run:
    """One Run, called finetune/tiny-…"""
    run = Run.create("finetune", FakeTokenizer(), name="tiny")
    run.finish({})
    return run


def test_one_word_is_a_model_when_it_names_one(a_run: Run, tmp_path: Path) -> None:
    folder, file = tmp_path / "hub folder", tmp_path / "m.gguf"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    file.write_text("")
    for word in (DEFAULT_MODEL, a_run.id, f"{a_run.id}@10", "tiny", a_run.id.split("/")[1], str(folder), str(file)):
        assert model_and_prompt(word, "") == (word, "")


@pytest.mark.parametrize("word", ["hi", "Why?", "tell me a joke", "and/or what?", "t", "~", "well-being"])
def test_other_words_are_a_prompt_for_the_usual_model(word: str) -> None:
    assert model_and_prompt(word, "") == (DEFAULT_MODEL, word)


@pytest.mark.parametrize(
    "word", ["smollm2-135m-instrct", "smollm2-135m", "finetune/tniy", "./folder", "model.gguf", "llama-3.2-1b", "a/b"]
)
def test_a_word_that_looks_like_a_model_and_is_none_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"no model '{word}'"):
        model_and_prompt(word, "")


def test_two_words_are_model_and_prompt_and_none_is_the_usual_model() -> None:
    assert model_and_prompt("anything", "hi") == ("anything", "hi")
    assert model_and_prompt("", "") == (DEFAULT_MODEL, "")


def test_a_model_that_cannot_be_is_refused_before_the_prompt(a_run: Run) -> None:
    for word in (DEFAULT_MODEL, "tiny", a_run.id[:-2], "someone/some-model"):
        refuse_unknown(word)
    for word in ("tniy", "./folder", "x.gguf"):
        with pytest.raises(ConfigError, match=f"no model '{word}'"):
            refuse_unknown(word)


def test_a_prompt_is_answered_plainly(
    opened: list[str], capsys: pytest.CaptureFixture[str], pipe: Callable[[str], None]
) -> None:
    pipe("")
    assert main(["chat", "hi"]) == 0
    assert capsys.readouterr() == ("<user: hi\nassistant: >\n", "")
    assert opened == [DEFAULT_MODEL]


def test_a_pipe_is_joined_below_the_prompt(
    opened: list[str], capsys: pytest.CaptureFixture[str], pipe: Callable[[str], None]
) -> None:
    pipe("some text\n")
    assert main(["run", "tiny", "summarise"]) == 0
    assert "<user: summarise\n\nsome text\n" in capsys.readouterr().out
    pipe("only the pipe")
    assert main(["chat"]) == 0
    assert "<user: only the pipe\n" in capsys.readouterr().out
    assert opened == ["tiny", DEFAULT_MODEL]


def test_the_reply_as_json(opened: list[str], capsys: pytest.CaptureFixture[str], pipe: Callable[[str], None]) -> None:
    pipe("")
    assert main(["chat", "hi", "--json", "--max-tokens", "4", "--system", "Be brief."]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert (plain["text"], plain["finish"]) == ("<sys", "length")


def test_generate_continues_the_text_without_a_template(
    opened: list[str], capsys: pytest.CaptureFixture[str], pipe: Callable[[str], None]
) -> None:
    assert main(["generate", "m", "once upon", "--stop", "UP", "--temperature", "0.5"]) == 0
    assert capsys.readouterr().out.startswith("ONCE ")
    assert main(["generate", "m", "abcdef", "--max-tokens", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "ABC"
    pipe("from a pipe")
    assert main(["generate", "m"]) == 0
    assert capsys.readouterr().out == "FROM A PIPE\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chat"], "there is nothing to answer"),
        (["chat", "hi", "--temperature", "-1"], "temperature is -1.0; it must be 0 (greedy) or more"),
        (["chat", "hi", "--temprature", "1"], "chat has no option --temprature; did you mean 'temperature'?"),
        (["run"], "run needs MODEL"),
        (["run", "smollm2-135", "hi"], "no model 'smollm2-135'; did you mean 'smollm2-135m-instruct'?"),
        (["generate"], "generate needs MODEL"),
        (["generate", "m"], "generate needs a PROMPT"),
        (["chat", "a", "b", "c"], "chat does not know what to do with 'c'"),
        (["chat", "x" * 300 + " y"], "the conversation is 320 tokens and smollm2-135m-instruct takes 200"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    message: str,
    opened: list[str],
    capsys: pytest.CaptureFixture[str],
    pipe: Callable[[str], None],
) -> None:
    pipe("")
    assert main(words) == 2
    text = capsys.readouterr().err
    assert text.startswith("lyceum: ") and text.count("\n") == 1 and message in text


def test_a_model_of_the_library_is_fetched_before_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(sources, "fetch", fetched.append)
    partner.prepare(DEFAULT_MODEL)
    partner.prepare("finetune/tiny")
    assert fetched == [DEFAULT_MODEL]
