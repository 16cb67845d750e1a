"""OpenVINO GenAI on the GGUF file itself, which it converts while it opens it.

Settings: "model" (a .gguf file), "threads", "properties" (of the CPU device), "folder" (may be written to).
The pipeline that answers does not give its scores, so they come from the network that it made of the file.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from inference_worker import Logits, Timed, serve


class OpenVino:
    """An open pipeline."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._properties = {"INFERENCE_NUM_THREADS": settings["threads"], **settings["properties"]}
        self._pipeline = openvino_genai.LLMPipeline(settings["model"], "CPU", **self._properties)
        self._network: Any = None

    def prefill(self, tokens: list[int]) -> float:
        """Read a prompt and choose the next token."""
        begun = time.perf_counter()
        self._answer([tokens], 1)
        return time.perf_counter() - begun

    def decode(self, prompt: list[int], num_tokens: int) -> Timed:
        """Answer one prompt; the pipeline's own clock says when each token was there."""
        return self.batch([prompt], num_tokens)

    def batch(self, prompts: list[list[int]], num_tokens: int) -> Timed:
        """Answer all prompts together, read as one array."""
        times = self._answer(prompts, num_tokens).perf_metrics.raw_metrics.m_new_token_times  # in milliseconds
        return Timed(seconds=(times[-1] - times[0]) / 1000, tokens=(len(times) - 1) * len(prompts))

    def logits(self, tokens: list[int], path: str) -> Logits:
        """The scores after every token."""
        if self._network is None:
            self._network = self._open_network()
        self._network.reset_state()
        size = len(tokens) if path == "prefill" else 1
        found = []
        for start in range(0, len(tokens), size):
            some = np.array([tokens[start : start + size]], dtype=np.int64)
            inputs = {
                "input_ids": some,
                "attention_mask": np.ones((1, start + some.shape[1]), dtype=np.int64),
                "position_ids": np.arange(start, start + some.shape[1], dtype=np.int64)[None],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
            found.append(self._network.infer(inputs)["logits"][0].copy())
        return np.concatenate(found)

    def _answer(self, prompts: list[list[int]], num_tokens: int) -> Any:
        ids = np.array(prompts, dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        wishes = openvino_genai.GenerationConfig()
        wishes.max_new_tokens, wishes.ignore_eos, wishes.do_sample = num_tokens, True, False
        return self._pipeline.generate(inputs, wishes)

    def _open_network(self) -> Any:
        """The network as a file of its own: a pipeline writes it beside the model it is given, here a link."""
        folder = Path(self._settings["folder"])
        link, network = folder / "model.gguf", folder / "openvino_model.xml"
        if not network.exists():
            link.symlink_to(Path(self._settings["model"]).resolve())
            openvino_genai.LLMPipeline(str(link), "CPU", enable_save_ov_model=True)
        compiled = openvino.Core().compile_model(str(network), "CPU", self._properties)
        return compiled.create_infer_request()


def open_engine(settings: dict[str, Any]) -> tuple[OpenVino, float]:
    """The engine, and how long opening took."""
    begun = time.perf_counter()
    return OpenVino(settings), time.perf_counter() - begun


if __name__ == "__main__":
    if sys.argv[1] == "about":
        print("OpenVINO GenAI", openvino_genai.__version__)
    else:
        serve(open_engine)
