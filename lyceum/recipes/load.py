"""Open a model by any of its names: a catalog entry, a Run, a Hugging Face or PEFT folder, a .gguf file, a Hub id."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from lyceum.catalog import sources
from lyceum.catalog.hub import fetch_repository
from lyceum.catalog.models import MODELS
from lyceum.core import files
from lyceum.core.device import pick_device
from lyceum.core.errors import CheckpointError, ConfigError, suggestion
from lyceum.core.run import Run, runs_dir
from lyceum.infer.engine import Engine
from lyceum.infer.torch_runner import plain_engine
from lyceum.model.adapters import lora
from lyceum.model.gguf_llama import open_llama
from lyceum.model.transformer import Transformer
from lyceum.model.weights import CONFIG, build, load_folder
from lyceum.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """An open model with its tokenizer."""

    name: str  # the reference it was opened by
    model: Transformer
    tokenizer: Tokenizer

    def engine(self) -> Engine:
        """An engine over this model as it is: it remembers what it read, so make another after switching adapters."""
        return plain_engine(self.model, self.tokenizer)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a reference leads: a folder or a .gguf file."""

    path: Path
    name: str  # a Run's id or `catalog:` and `hub:` names; "" for a path, which is known by its contents

    @property
    def origin(self) -> str:
        """What a Run made from it writes among its inputs; a path's weights are hashed for it."""
        if self.name:
            return self.name
        weights = [self.path] if self.path.is_file() else sorted(self.path.glob("*.safetensors"))
        return f"path:{self.path}#{'+'.join(files.sha256(file)[:12] for file in weights)}"


def load(reference: str, *, dtype: torch.dtype | None = None) -> Loaded:
    """Open a model for use, in `dtype` or the device's own format (bfloat16 where it multiplies it).

    ConfigError names the nearest when nothing has that name; CheckpointError when the files are damaged.
    """
    device = pick_device()
    dtype, place = dtype or device.dtype, locate(reference)
    if place.path.suffix == ".gguf":
        opened = open_llama(place.path, dtype=dtype)
        model = build(opened.config, opened.state, dtype=dtype, where=str(place.path))
        tokenizer = Tokenizer.from_gguf(place.path)
    elif (place.path / lora.CONFIG).is_file():
        base = load(lora.base_of(place.path), dtype=dtype)
        model, tokenizer = base.model, base.tokenizer
        lora.fold(model)  # an adapter on an adapter: the first becomes part of the base
        lora.load_adapter(model, place.path)
    else:
        model, tokenizer = load_folder(place.path, dtype=dtype), Tokenizer.open(place.path)
    model.to(device.torch).requires_grad_(False)
    return Loaded(name=reference, model=model, tokenizer=tokenizer)


def load_base(reference: str) -> Loaded:
    """Open a model to put a fresh adapter on: one that it comes with becomes part of its weights."""
    opened = load(reference)
    lora.fold(opened.model)
    return opened


def locate(reference: str) -> Place:
    """Find what a reference names, fetching a catalog entry that is not here yet."""
    path = Path(reference)
    if path.is_file() and path.suffix == ".gguf":
        return Place(path=path, name="")
    if path.is_dir() and any((path / name).is_file() for name in (CONFIG, lora.CONFIG)):
        return Place(path=path, name="")
    if reference in MODELS:
        folder = sources.fetch(reference)
        found = sorted(folder.glob("*.gguf")) or [folder]
        return Place(path=found[0], name=f"catalog:{reference}")
    try:
        run = Run.open(reference)
    except CheckpointError:
        return _hub_or_unknown(reference)
    return Place(path=run.folder, name=run.id if run.step is None else f"{run.id}@{run.step}")


def _hub_or_unknown(reference: str) -> Place:
    for entry in MODELS.values():
        if entry.hub is not None and reference == entry.hub.repository:
            return locate(entry.name)
    known = [*MODELS, *(run.id for run in Run.all())]
    hint = suggestion(reference, known) or f"; the library has {', '.join(MODELS)}, and `lyceum runs` lists your Runs"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", reference) and not suggestion(reference, known):
        return _from_hub(reference)
    raise ConfigError(f"no model {reference!r} in the library, in {runs_dir()} or as a file{hint}")


def _from_hub(repository: str) -> Place:
    folder = fetch_repository(repository, sources.cache_dir() / "hub" / repository.replace("/", "--"))
    return Place(path=folder, name=f"hub:{repository}")
