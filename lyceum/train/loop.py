"""fit(): the one training loop. Kinds of training differ in three arguments: model, source, objective."""

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lyceum.core.device import Device, measured_peak_flops, peak_flops, pick_device
from lyceum.core.errors import ConfigError, DataError
from lyceum.core.log import Progress
from lyceum.core.run import Run
from lyceum.data.ahead import Ahead
from lyceum.data.batch import Batch, Source
from lyceum.model.attend import Packed
from lyceum.model.transformer import Transformer
from lyceum.train import checkpoint
from lyceum.train.compiled import Compile, is_compiled, num_graphs
from lyceum.train.meter import Fitted, Meter, Peaks, fitted
from lyceum.train.objective import Loss, Objective, Outputs
from lyceum.train.optim import AdamW, Optimizer
from lyceum.train.schedule import Cosine, Schedule


class Products(StrEnum):
    """The number format of matrix products."""

    DEVICE = "device"  # what the device multiplies best: bfloat16 or float32
    FLOAT8 = "float8"  # 8 bits in the blocks' large matrices (train/float8.py)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long and how to step. A step is one optimizer update over `accumulate` micro-batches."""

    steps: int
    accumulate: int = 1
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Cosine()
    compile: Compile = Compile.AUTO
    products: Products = Products.DEVICE
    clip: float = 1.0  # the gradient's norm is brought down to this; 0 leaves it
    save_every_steps: int = 0  # 0 saves at the end only
    keep_checkpoints: int = 2

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulate < 1 or self.keep_checkpoints < 1:
            raise ConfigError(
                f"fit has steps={self.steps}, accumulate={self.accumulate}, keep_checkpoints={self.keep_checkpoints}; "
                f"each must be at least 1"
            )


@runtime_checkable
class Hook(Protocol):
    """Something to do after certain steps: evaluate, sample, tell."""

    def __call__(self, step: int) -> dict[str, float]:
        """Figures to add to the step's metrics; called after every step: {} at once when there is nothing to do."""


def fit(
    model: Transformer,
    source: Source,
    objective: Objective,
    config: FitConfig,
    *,
    run: Run,
    save_weights: checkpoint.Saver,
    flops_per_token: float,
    hooks: Sequence[Hook] = (),
) -> Fitted:
    """Train the parameters that require a gradient, from the Run's last checkpoint if it has one.

    DataError on a step whose loss or gradient is not finite: nothing of it is applied, the last checkpoint stands.
    """
    device = pick_device()
    model.to(device.torch)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = config.optimizer.build(named.items())
    start = checkpoint.restore(run, named=named, optimizer=optimizer, source=source)
    peaks = Peaks(flops_per_token=flops_per_token, peak=peak_flops(device), measured=measured_peak_flops(device))
    with contextlib.ExitStack() as open_things:
        bar = open_things.enter_context(Progress(run.id, total=config.steps - start, unit=""))
        if device.kind == "cuda":
            source = open_things.enter_context(Ahead(source, is_pinned=True))
        meter = Meter(bar, peaks)
        for step in range(start + 1, config.steps + 1):
            begun = time.perf_counter()
            share = config.schedule.share(step - 1, config.steps)
            batches = [next(source) for _ in range(config.accumulate)]
            waited_s = time.perf_counter() - begun
            told = update(model, batches, objective, optimizer, share=share, clip=config.clip, device=device, step=step)
            tokens = sum(batch.num_tokens for batch in batches)
            seconds = time.perf_counter() - begun
            figures = meter.step(loss=told["loss"], tokens=tokens, seconds=seconds, waited_s=waited_s)
            figures["graphs"] = num_graphs(model)
            for hook in hooks:
                told |= hook(step)
            run.metrics(step=step, rate=config.optimizer.rate * share, **told, **figures)
            if step == config.steps or (config.save_every_steps and step % config.save_every_steps == 0):
                checkpoint.save(
                    run, step, save_weights=save_weights, named=named, optimizer=optimizer, source=source,
                    keep=config.keep_checkpoints,
                )  # fmt: skip
    return fitted(run, peaks)


def update(
    model: Transformer, batches: Sequence[Batch], objective: Objective, optimizer: torch.optim.Optimizer, *,
    share: float, clip: float, device: Device, step: int,
) -> dict[str, float]:  # fmt: skip
    """One optimizer update over micro-batches: gradients of sums are added, then divided once by the weight.

    Each group of parameters learns at `share` of its own peak rate.
    """
    total, weight, sums = 0.0, 0.0, dict[str, float]()
    for batch in batches:
        loss = forward(model, batch.to(device.torch), objective, device)
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + loss.weight
        for name, value in loss.figures.items():
            sums[name] = sums.get(name, 0.0) + value
    if not weight:
        raise DataError(f"step {step} holds no token to learn from; check the data's loss weights")
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    torch._foreach_div_(gradients, weight)
    norm = float(nn.utils.get_total_norm(gradients))
    if not math.isfinite(total) or not math.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        raise DataError(
            f"step {step}: loss {total / weight} and gradient norm {norm} are not finite, so it was refused and "
            f"the last checkpoint stands; lower the rate or look at the batch"
        )
    if clip and norm > clip:
        torch._foreach_mul_(gradients, clip / norm)
    for group in optimizer.param_groups:
        group["lr"] = share * group["initial_lr"]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {"loss": total / weight, "gradient_norm": norm} | {name: value / weight for name, value in sums.items()}


def forward(model: Transformer, batch: Batch, objective: Objective, device: Device) -> Loss:
    """The objective on one batch, matrix products in the device's format, documents of a row kept apart."""
    is_reduced = device.dtype == torch.bfloat16
    with torch.autocast(device.kind, torch.bfloat16) if is_reduced else contextlib.nullcontext():
        return objective(Outputs(hidden=read(model, batch), logits=model.logits, is_compiled=is_compiled(model)), batch)


def read(model: Transformer, batch: Batch) -> Float[Tensor, "B T D"]:
    """The last hidden states of a batch's rows, documents kept apart; an encoder beside them reads its inputs first."""
    inputs = batch.inputs
    if batch.is_whole:  # as the model reads anyway
        return model(batch.tokens, memory=None if inputs is None else model.remember(model.encode(inputs.tokens)))
    positions = batch.positions()
    if inputs is None:
        return model(batch.tokens, positions=positions, attend=Packed(batch.documents))
    encoded = model.encode(inputs.tokens, positions=inputs.positions(), attend=Packed(inputs.documents))
    attend = Packed(batch.documents, inputs.documents)
    return model(batch.tokens, positions=positions, attend=attend, memory=model.remember(encoded))
