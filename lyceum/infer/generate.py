"""Generation said plainly: no cache, no batch, the whole prefix through the model at every step.

Slow and obviously right: the engine is tested against it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lyceum.core.request import Finish, Reply, Request
from lyceum.infer.head import next_logits
from lyceum.infer.sampling import choose, logprobs_of
from lyceum.infer.stops import StopStrings
from lyceum.model.transformer import Transformer
from lyceum.tokenizer.tokenizer import Detokenizer, Tokenizer


@torch.inference_mode()
def generate(model: Transformer, tokenizer: Tokenizer, request: Request) -> Reply:
    """The answer to one request. Times are not measured."""
    sampling = request.sampling
    tokens: list[int] = []
    logprobs: list[float] = []
    text, finish = "", Finish.LENGTH
    while len(tokens) < sampling.max_tokens:
        row = torch.tensor([(*request.tokens, *tokens)], device=model.embedding.weight.device)
        logits = next_logits(model, model(row)[:, -1])  # (1, V)
        known = logits[:, : tokenizer.vocab_size]  # some models have rows that no token of theirs uses
        token = choose(known, [sampling], [(*request.tokens, *tokens)], [len(tokens)])[0]
        tokens.append(token)
        logprobs.append(float(logprobs_of(logits, torch.tensor([token], device=logits.device))))
        is_end = token in tokenizer.eos_ids
        stops = StopStrings(sampling.stop)
        text = stops.push(_text(tokenizer, tokens[:-1] if is_end else tokens)) + stops.finish()
        if is_end or stops.is_stopped:
            finish = Finish.STOP
            break
    return Reply(
        text=text,
        tokens=tuple(tokens),
        finish=finish,
        prompt_tokens=len(request.tokens),
        logprobs=tuple(logprobs),
        prompt_logprobs=_prompt_logprobs(model, request),
    )


def all_logits(model: Transformer, tokens: tuple[int, ...]) -> Float[Tensor, "T V"]:
    """The logits after every token of one row."""
    row = torch.tensor([tokens], device=model.embedding.weight.device)
    return model.logits(model(row)[0])


def _prompt_logprobs(model: Transformer, request: Request) -> tuple[float, ...]:
    if request.score_from is None:
        return ()
    logits = all_logits(model, request.tokens)[request.score_from - 1 : -1]
    targets = torch.tensor(request.tokens[request.score_from :], dtype=torch.long, device=logits.device)
    return tuple(logprobs_of(logits, targets).tolist())


def _text(tokenizer: Tokenizer, tokens: list[int]) -> str:
    detokenizer = Detokenizer(tokenizer)
    return "".join(detokenizer.push(token) for token in tokens) + detokenizer.finish()
