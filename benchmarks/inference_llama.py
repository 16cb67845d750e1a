"""llama.cpp through its C interface, as its own llama-bench drives it: nothing of Python between two tokens but argmax.

Settings: "model" (a .gguf file), "flash_attention" (a bool, or null for llama.cpp's own choice), "threads".
Run with `requantize SOURCE TARGET` it writes the model as Q4_0, the format llama.cpp has its fastest kernels for.
"""

import ctypes
import sys
import time
from typing import Any

import llama_cpp as c
import numpy as np
from inference_worker import Logits, Timed, serve

CONTEXT_TOKENS = 2048
PASS_TOKENS = 512  # llama.cpp's own default
LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR
FLASH = {None: c.LLAMA_FLASH_ATTN_TYPE_AUTO, False: c.LLAMA_FLASH_ATTN_TYPE_DISABLED}


class Context:
    """A context for some sequences side by side, with the cache of each."""

    def __init__(self, model: Any, *, sequences: int, tokens: int, settings: dict[str, Any]) -> None:
        params = c.llama_context_default_params()
        params.n_ctx, params.n_seq_max = sequences * tokens, sequences
        params.n_batch = params.n_ubatch = PASS_TOKENS
        params.n_threads = params.n_threads_batch = settings["threads"]
        params.flash_attn_type = FLASH.get(settings["flash_attention"], c.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        self.handle = c.llama_init_from_model(model, params)
        if not self.handle:
            raise RuntimeError("llama.cpp could not make a context")
        self.vocab_size = c.llama_vocab_n_tokens(c.llama_model_get_vocab(model))
        self._batch = c.llama_batch_init(PASS_TOKENS, 0, sequences)

    def clear(self) -> None:
        """Forget all sequences."""
        c.llama_memory_clear(c.llama_get_memory(self.handle), False)

    def read(self, tokens: list[tuple[int, int, int]], *, wants: str = "last") -> None:
        """One pass over (token, position, sequence) triples; scores after the "last" or after "all" of them."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence) in enumerate(tokens):
            batch.token[place], batch.pos[place] = token, position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
            batch.logits[place] = wants == "all" or place == len(tokens) - 1
        if status := c.llama_decode(self.handle, batch):
            raise RuntimeError(f"llama_decode gave {status}")

    def read_prompt(self, tokens: list[int], sequence: int = 0) -> None:
        """Read a whole prompt, in passes."""
        for start in range(0, len(tokens), PASS_TOKENS):
            some = tokens[start : start + PASS_TOKENS]
            self.read([(token, start + at, sequence) for at, token in enumerate(some)])

    def scores(self, num: int = 1) -> Logits:
        """The scores of the last pass, without copying."""
        pointer = ctypes.cast(c.llama_get_logits(self.handle), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=(num, self.vocab_size))


class Llama:
    """An open model."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        params = c.llama_model_default_params()
        self._model = c.llama_model_load_from_file(settings["model"].encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp could not open {settings['model']}")
        self._one = Context(self._model, sequences=1, tokens=CONTEXT_TOKENS, settings=settings)
        self._many: dict[int, Context] = {}  # by the number of sequences; made when asked for

    def prefill(self, tokens: list[int]) -> float:
        """Read a prompt and choose the next token."""
        self._one.clear()
        begun = time.perf_counter()
        self._one.read_prompt(tokens)
        self._one.scores().argmax()
        return time.perf_counter() - begun

    def decode(self, prompt: list[int], num_tokens: int) -> Timed:
        """Answer one prompt; an end token does not end it."""
        self.prefill(prompt)
        token, position = int(self._one.scores().argmax()), len(prompt)
        begun = time.perf_counter()
        for _ in range(num_tokens - 1):
            self._one.read([(token, position, 0)])
            token, position = int(self._one.scores().argmax()), position + 1
        return Timed(seconds=time.perf_counter() - begun, tokens=num_tokens - 1)

    def batch(self, prompts: list[list[int]], num_tokens: int) -> Timed:
        """Answer all prompts together, each in a sequence of its own."""
        longest = max(map(len, prompts)) + num_tokens
        if len(prompts) not in self._many:
            tokens = -(-longest // 256) * 256
            self._many[len(prompts)] = Context(
                self._model, sequences=len(prompts), tokens=tokens, settings=self._settings
            )
        context = self._many[len(prompts)]
        context.clear()
        answer: list[int] = []
        for sequence, prompt in enumerate(prompts):
            context.read_prompt(prompt, sequence)
            answer.append(int(context.scores().argmax()))
        positions = [len(prompt) for prompt in prompts]
        begun = time.perf_counter()
        for step in range(num_tokens - 1):
            context.read([(token, positions[row] + step, row) for row, token in enumerate(answer)], wants="all")
            answer = [int(best) for best in context.scores(len(prompts)).argmax(axis=1)]
        return Timed(seconds=time.perf_counter() - begun, tokens=(num_tokens - 1) * len(prompts))

    def logits(self, tokens: list[int], path: str) -> Logits:
        """The scores after every token."""
        self._one.clear()
        size = PASS_TOKENS if path == "prefill" else 1
        found = []
        for start in range(0, len(tokens), size):
            some = tokens[start : start + size]
            self._one.read([(token, start + at, 0) for at, token in enumerate(some)], wants="all")
            found.append(self._one.scores(len(some)).copy())
        return np.concatenate(found)


@c.llama_log_callback
def _quiet(level: int, text: bytes, user_data: Any) -> None:
    """llama.cpp tells hundreds of lines; only its errors are passed on."""
    if level == LOG_ERROR:
        sys.stderr.write(text.decode("utf-8", "replace"))


def open_engine(settings: dict[str, Any]) -> tuple[Llama, float]:
    """The engine, and how long opening took."""
    begun = time.perf_counter()
    return Llama(settings), time.perf_counter() - begun


def requantize(source: str, target: str, threads: int = 2) -> None:
    """Write a model as Q4_0, with llama.cpp's own choices for the tensors that stay finer."""
    params = c.llama_model_quantize_default_params()
    params.nthread, params.ftype, params.allow_requantize = threads, c.LLAMA_FTYPE_MOSTLY_Q4_0, True
    if status := c.llama_model_quantize(source.encode(), target.encode(), params):
        raise RuntimeError(f"llama_model_quantize gave {status} for {source}")


if __name__ == "__main__":
    c.llama_log_set(_quiet, ctypes.c_void_p())
    c.llama_backend_init()
    if sys.argv[1] == "requantize":
        requantize(*sys.argv[2:4])
    elif sys.argv[1] == "about":
        print("llama-cpp-python", c.__version__, c.llama_print_system_info().decode())
    else:
        serve(open_engine)
