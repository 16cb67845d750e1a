"""The engine: many requests at once over one model, with a key-value cache.

A step scores one row of waiting scoring requests, gives every running answer its next token in one batched pass, and
lets waiting requests in: their prompts are read as one packed row. Rows join and leave at any step.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lyceum.core.errors import CheckpointError, ConfigError, suggestion
from lyceum.core.request import Finish, Request
from lyceum.infer.cache import Cache
from lyceum.infer.head import next_logits
from lyceum.infer.sampling import Row, choose, logprobs_of
from lyceum.infer.scoring import ScoringRow, score
from lyceum.infer.stream import Answer
from lyceum.model.transformer import Transformer
from lyceum.tokenizer.tokenizer import Tokenizer

PASS_TOKENS = {"cpu": 512, "cuda": 4096}  # prompt or scored tokens packed into one pass


class Engine:
    """Answers requests with a Transformer. Safe to use from several threads; one of them steps at a time."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, max_rows: int = 16) -> None:
        if max_rows < 1:
            raise ConfigError(f"max_rows is {max_rows}; it must be at least 1")
        self.model, self.tokenizer, self.max_rows = model, tokenizer, max_rows
        weight = model.embedding.weight
        self._device = weight.device
        self._cache = Cache(model.config, dtype=weight.dtype, device=weight.device)
        self._pass_tokens = min(PASS_TOKENS[weight.device.type], model.config.context_tokens)
        self._scoring: deque[Answer] = deque()
        self._waiting: deque[Answer] = deque()
        self._running: list[Answer] = []  # the answer at place i lives in row i of the cache
        self._lock = threading.RLock()

    @property
    def context_tokens(self) -> int:
        """The most tokens a prompt and its answer may have together."""
        return self.model.config.context_tokens

    def submit(self, request: Request) -> Answer:
        """Queue a request. ConfigError, before any work, when it does not fit the model."""
        self._check(request)
        answer = Answer(request, self.tokenizer, advance=self._advance, lock=self._lock)
        with self._lock:
            if request.score_from is not None:
                self._scoring.append(answer)
            elif request.sampling.max_tokens:
                self._waiting.append(answer)
            else:
                answer.end(Finish.LENGTH)
        return answer

    @torch.inference_mode()
    def step(self) -> bool:
        """Advance every running answer by one token, let waiting ones in; False when there is nothing to do."""
        with self._lock:
            self._drop_ended()
            if not (self._scoring or self._waiting or self._running):
                return False
            if self._scoring:
                self._score()
            if self._running:
                self._decode()
            if self._waiting and len(self._running) < self.max_rows:
                self._admit()
            return True

    def load(self, weights: Mapping[str, Any]) -> None:
        """Replace weights by name, in the model's own format. ConfigError while requests are unfinished."""
        with self._lock:
            self._drop_ended()
            unfinished = len(self._scoring) + len(self._waiting) + len(self._running)
            if unfinished:
                raise ConfigError(f"{unfinished} requests are unfinished; let them end or cancel them before load()")
            own = self.model.state_dict()
            for name, tensor in weights.items():
                if name not in own:
                    raise CheckpointError(f"the model has no weight {name!r}{suggestion(name, own)}")
                if own[name].shape != tensor.shape:
                    raise CheckpointError(
                        f"{name} is {tuple(tensor.shape)}; the model's is {tuple(own[name].shape)}: "
                        "give the weights of the same model"
                    )
            with torch.no_grad():
                for name, tensor in weights.items():
                    own[name].copy_(tensor)

    def _check(self, request: Request) -> None:
        config, num_tokens, more = self.model.config, len(request.tokens), request.sampling.max_tokens
        if not num_tokens:
            raise ConfigError("the prompt has no tokens; give at least one, such as the tokenizer's first")
        if num_tokens + more > config.context_tokens:
            raise ConfigError(
                f"the prompt's {num_tokens} tokens and max_tokens={more} make {num_tokens + more}; this model reads "
                f"{config.context_tokens}: shorten the prompt or lower max_tokens"
            )
        worst = max(request.tokens) if min(request.tokens) >= 0 else min(request.tokens)
        if not 0 <= worst < config.vocab_size:
            raise ConfigError(
                f"the prompt holds token {worst}; this model's are 0 to {config.vocab_size - 1}: use its own tokenizer"
            )
        if request.score_from is not None and not 1 <= request.score_from <= num_tokens:
            raise ConfigError(f"score_from is {request.score_from}; it must be 1 to {num_tokens}, the prompt's tokens")

    def _advance(self, answer: Answer, seen: int) -> None:
        """Step unless another thread's step already brought this answer beyond its `seen` tokens."""
        with self._lock:
            if answer.finish is None and len(answer.tokens) == seen:
                self.step()

    def _drop_ended(self) -> None:
        """Answers that ended or were cancelled leave; the last row moves into a gap."""
        self._scoring = deque(answer for answer in self._scoring if answer.finish is None)
        self._waiting = deque(answer for answer in self._waiting if answer.finish is None)
        row = 0
        while row < len(self._running):
            if self._running[row].finish is None:
                row += 1
                continue
            *others, last = self._running
            if row < len(others):
                self._cache.move(len(others), row, num_tokens=len(last.history) - 1)
                others[row] = last
            self._running = others

    def _score(self) -> None:
        row = ScoringRow(self._pass_tokens)
        batch: list[Answer] = []
        for answer in self._scoring:
            assert answer.request.score_from is not None
            if not row.add(answer.request.tokens, answer.request.score_from):
                break
            batch.append(answer)
        for answer, logprobs in zip(batch, score(self.model, row), strict=True):
            self._scoring.popleft()
            answer.prompt_logprobs = logprobs
            if answer.request.sampling.max_tokens:
                self._waiting.append(answer)
            else:
                answer.end(Finish.LENGTH)

    def _decode(self) -> None:
        """One token more for every running row."""
        positions = self._cache.open([len(answer.history) - 1 for answer in self._running])
        tokens = torch.tensor([answer.history[-1:] for answer in self._running], device=self._device)
        hidden = self.model(tokens, positions=positions, attend=self._cache)  # (B, 1, D)
        self._take(self._running, next_logits(self.model, hidden[:, 0]))

    def _admit(self) -> None:
        """Read the prompts of waiting requests as one packed row, and give each its first token."""
        batch: list[Answer] = []
        num_tokens = 0
        for answer in self._waiting:
            num_tokens += len(answer.history)
            if batch and (num_tokens > self._pass_tokens or len(self._running) + len(batch) == self.max_rows):
                break
            batch.append(answer)
        sizes = [len(answer.history) for answer in batch]
        fill = self._cache.fill(len(self._running), sizes)
        tokens = torch.tensor([[token for answer in batch for token in answer.history]], device=self._device)
        hidden = self.model(tokens, positions=fill.positions, attend=fill)  # (1, T, D)
        last = torch.tensor(sizes, device=self._device).cumsum(0) - 1
        logits = next_logits(self.model, hidden[0, last])
        self._running = self._running + batch
        self._waiting = deque(answer for answer in self._waiting if answer not in batch)
        self._take(batch, logits)

    def _take(self, answers: Sequence[Answer], logits: Float[Tensor, "B V"]) -> None:
        known = logits[:, : self.tokenizer.vocab_size]  # some models have rows that no token of theirs uses
        tokens = choose(known, [Row(a.request.sampling, a.request.tokens, a.tokens) for a in answers])
        logprobs = logprobs_of(logits, torch.tensor(tokens, device=self._device)).tolist()
        for answer, token, logprob in zip(answers, tokens, logprobs, strict=True):
            answer.take(token, logprob)
