"""Answers that are written a token at a time: what each asks of its next token, and what is told of the chosen one."""

from lyceum.core.request import Request
from lyceum.infer.answer_text import AnswerText
from lyceum.infer.branch import Scores
from lyceum.infer.explain import considered
from lyceum.infer.grammar import Grammars
from lyceum.infer.penalties import breaker_tokens
from lyceum.infer.row import Row
from lyceum.infer.sample import Chosen, Writer
from lyceum.infer.sampling import top_logprobs
from lyceum.infer.stream import Answer


def writers_of(answer: Answer, grammars: Grammars) -> list[Writer]:
    """One for each of a request's answers. ConfigError when its grammar is none."""
    request, sampling = answer.request, answer.request.sampling
    breakers = breaker_tokens(answer.tokenizer, sampling.dry.breakers) if sampling.dry else frozenset()
    matcher = None
    if request.grammar is not None:
        matcher = grammars.matcher(request.grammar, stop_tokens=sampling.stop_tokens)
    return [
        Writer(
            choice,
            Row(sampling, request.tokens, choice.tokens, choice.number, answer.end_tokens, breakers=breakers),
            matcher=matcher if matcher is None or not choice.number else matcher.fork(),
            guide=AnswerText(answer.tokenizer) if request.features else None,
        )
        for choice in answer.choices
    ]


def told(scores: Scores, place: int, token: int, row: Row, request: Request, *, known_tokens: int) -> Chosen:
    """A token chosen from one of a branch's rows of scores, with all that the request wants to know of it."""
    logits, total = scores.logits[place, :known_tokens], float(scores.logsumexp[place])
    return Chosen(
        token,
        float(logits[token]) - total,
        top_logprobs(logits, total, request.top_logprobs),
        considered(logits, total, row) if len(row.answer) < request.explain_tokens else (),
    )
