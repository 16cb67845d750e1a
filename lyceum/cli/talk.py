"""`lyceum chat`, `run` and `generate`: a model answers in the terminal or in a pipe.

Which word is the MODEL? `run` and `generate` always take it first. `chat` with two words takes MODEL and PROMPT. With
one word it is the MODEL when it names a model of the library, a Run or a model folder or file here; an error when it
looks like a model's name (a path, a near miss of a known name, or hyphens with digits); and otherwise a prompt.
"""

import difflib
import json
import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lyceum.catalog.models import MODELS
from lyceum.cli.options import parse
from lyceum.core.config import to_json
from lyceum.core.errors import CheckpointError, ConfigError, suggestion
from lyceum.core.request import Request, Sampling
from lyceum.core.run import Run

DEFAULT_MODEL = "smollm2-135m-instruct"
MODEL_FILES = ("config.json", "adapter_config.json", "run.json")  # one of them makes a folder a model
NEAR = 0.75  # of difflib's ratio: above it a word is taken for a mistyped name


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Talk with a model. Without a PROMPT and a pipe it is a conversation: /help there lists what you can type."""

    model: str = ""  # a name from `lyceum list`, a Run, a Hugging Face folder or a .gguf file
    prompt: str = ""  # answer this and leave; with a pipe the piped text is put below it
    system: str = ""  # instructions for the whole conversation
    max_tokens: int | None = None  # of one answer
    temperature: float | None = None  # 0 is greedy
    top_k: int | None = None  # 0 keeps all
    top_p: float | None = None  # 1 keeps all
    repetition_penalty: float | None = None  # 1 is none
    seed: int | None = None  # with the position it fixes every draw
    json: bool = False  # print the whole reply as JSON when it is done


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Continue a text, plainly: no chat template. Without a PROMPT it is read from the pipe."""

    model: str  # a name from `lyceum list`, a Run, a Hugging Face folder or a .gguf file
    prompt: str = ""  # the text to go on from
    max_tokens: int = 256  # of the continuation
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0  # 1 keeps all
    repetition_penalty: float = 1.0  # 1 is none
    stop: tuple[str, ...] = ()  # end before this text; may be repeated
    seed: int = 0  # with the position it fixes every draw
    json: bool = False  # print the whole reply as JSON when it is done


def main(command: str, words: Sequence[str]) -> int:
    """Run `lyceum chat`, `run` or `generate`."""
    return _generate(words) if command == "generate" else _chat(command, words)


def model_and_prompt(first: str, second: str) -> tuple[str, str]:
    """Tell MODEL and PROMPT of `lyceum chat` apart: `model_and_prompt("hi", "") -> ("smollm2-135m-instruct", "hi")`.

    ConfigError when a lone word looks like a model's name and is none.
    """
    if second or not first or is_model(first):
        return first or DEFAULT_MODEL, second
    known = _known_names()
    is_near = difflib.get_close_matches(first, known, n=1, cutoff=NEAR)
    has_shape = re.fullmatch(r"[~.]?[\w.@-]*/\S*|\S+\.gguf|(?=\S*\d)[\w.]+(-[\w.]+)+", first)
    if not re.search(r"\s", first) and (is_near or has_shape):
        raise ConfigError(f"{_unknown(first)} (to say it instead: lyceum chat {DEFAULT_MODEL} {first!r})")
    return DEFAULT_MODEL, first


def refuse_unknown(word: str) -> None:
    """ConfigError when nothing can be called that, before a prompt is shown; Hub ids are left to the loader."""
    if is_model(word) or re.fullmatch(r"\w[\w.-]*/[\w.-]+", word):
        return
    try:
        Run.open(word)
    except CheckpointError as error:
        raise error if " fits " in str(error) else ConfigError(_unknown(word)) from error


def _unknown(word: str) -> str:
    near = suggestion(word, _known_names()) or "; `lyceum list` and `lyceum runs` list those there are"
    return f"no model {word!r}{near}"


def is_model(word: str) -> bool:
    """Whether a word names a model of the library, a Run, or a model folder or file here."""
    path = os.path.expanduser(word)  # os.path, not pathlib: a long prompt is no path, and no error either
    is_here = any(os.path.isfile(os.path.join(path, name)) for name in MODEL_FILES)
    return is_here or (path.endswith(".gguf") and os.path.isfile(path)) or word.partition("@")[0] in _known_names()


def _known_names() -> list[str]:
    """Names of the library, ids of Runs, and their short forms: `finetune/tiny-7f3a`, `tiny-7f3a`, `tiny`."""
    names = list(MODELS)
    for run in Run.all():
        tail = run.id.partition("/")[2]
        names += [run.id, tail, tail.rpartition("-")[0]]
    return names


def _chat(command: str, words: Sequence[str]) -> int:
    options = parse(Chat, words, command=command, positional=["model", "prompt"])
    if command == "run" and not options.model:
        raise ConfigError("run needs MODEL; `lyceum list` lists those there are, `lyceum chat` takes the usual one")
    model, prompt = options.model, options.prompt
    if command == "chat":
        model, prompt = model_and_prompt(model, prompt)
    refuse_unknown(model)
    # Imported here, after the words are understood: prompt_toolkit takes longer than all the rest of the command.
    from lyceum.cli.partner import history_file, open_partner, prepare
    from lyceum.serve.terminal import answer_once, chat
    from lyceum.serve.terminal_session import CHAT_SAMPLING, Session

    chosen = {name: getattr(options, name) for name in to_json(CHAT_SAMPLING) if name != "stop"}
    sampling = Sampling(**to_json(CHAT_SAMPLING) | {name: value for name, value in chosen.items() if value is not None})
    session = Session(name=model, sampling=sampling, system=options.system)
    prepare(model)
    text = _with_pipe(prompt)
    if text is None:
        status = chat(session, lambda: open_partner(model), history_file=history_file())
        sys.stdout.flush()
        os._exit(status)  # the thread that loads may be inside torch, which aborts an interpreter that ends under it
    reply = answer_once(session, lambda: open_partner(model), text, is_silent=options.json)
    if options.json:
        print(json.dumps(to_json(reply), ensure_ascii=False))
    return 0


def _generate(words: Sequence[str]) -> int:
    options = parse(Generate, words, command="generate", positional=["model", "prompt"])
    sampling = Sampling(**{name: getattr(options, name) for name in to_json(Sampling())})
    prompt = options.prompt or _piped()
    if not prompt:
        raise ConfigError("generate needs a PROMPT, as its second word or through a pipe")
    from lyceum.cli.partner import open_model
    from lyceum.serve.terminal import stream_text

    opened = open_model(options.model)
    request = Request(tokens=tuple(opened.tokenizer.encode_framed(prompt)), sampling=sampling)
    reply = stream_text(opened.engine().submit(request), is_silent=options.json)
    if options.json:
        print(json.dumps({"model": opened.name, "prompt": prompt} | to_json(reply), ensure_ascii=False))
    return 0


def _with_pipe(prompt: str) -> str | None:
    """The one message to answer: PROMPT, the piped text, or both; None at a terminal without a PROMPT."""
    if not prompt and sys.stdin.isatty() and sys.stdout.isatty():
        return None
    text = "\n\n".join(part for part in (prompt, _piped()) if part)
    if not text:
        raise ConfigError("there is nothing to answer; give a PROMPT, pipe a text, or run it in a terminal")
    return text


def _piped() -> str:
    """What a pipe or a file holds for us; nothing at a terminal."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    is_piped = stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)
    return sys.stdin.read().strip() if is_piped else ""
