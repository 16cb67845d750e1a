"""Compiled training takes the same steps, and does not compile again when nothing changes."""

import shutil

import pytest
import torch

from lyceum.core.device import Device
from lyceum.data.batch import Batch
from lyceum.model.config import ModelConfig
from lyceum.train.compiled import Compile, compile_blocks, is_compiled, num_graphs
from lyceum.train.loop import update
from lyceum.train.objectives.language import next_token_loss
from lyceum.train.optim import AdamW
from tests.small import GPT2, LLAMA, small_model

EXACT = Device(kind="cpu", name="cpu in float32", dtype=torch.float32)


def test_a_short_training_is_not_compiled() -> None:
    assert not Compile.AUTO.applies(expected_s=10.0, device_kind="cpu")
    assert Compile.AUTO.applies(expected_s=1e4, device_kind="cuda")
    assert Compile.ALWAYS.applies(expected_s=1.0, device_kind="cpu")
    assert not Compile.NEVER.applies(expected_s=1e4, device_kind="cuda")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on CPUs")
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
@pytest.mark.filterwarnings("default")  # the compiler's own
def test_compiled_steps_equal_plain_ones(config: ModelConfig) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, config.vocab_size, (4, 32))
    documents = torch.ones_like(tokens)
    losses: dict[bool, list[float]] = {}
    for wants_code in (False, True):
        model = small_model(config)
        optimizer = AdamW(rate=1e-2).build(model.named_parameters())
        if wants_code:
            compile_blocks(model)
        assert is_compiled(model) == wants_code
        graphs = []
        losses[wants_code] = []
        for step in range(6):
            batch = Batch(
                tokens=tokens.roll(step, 0), loss_weights=torch.ones(tokens.shape), documents=documents, is_whole=True
            )
            told = update(model, [batch], next_token_loss, optimizer, share=1.0, clip=1.0, device=EXACT, step=step)
            losses[wants_code].append(told["loss"])
            graphs.append(num_graphs(model))
        assert graphs[-1] == graphs[1]  # nothing is compiled after the second step
        assert (graphs[-1] > 0) == wants_code
    assert losses[True] == pytest.approx(losses[False], abs=1e-4)
    assert losses[True][0] - losses[True][-1] > 0.05  # it learns
