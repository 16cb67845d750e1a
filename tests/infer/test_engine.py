import dataclasses
import random

import pytest
import torch

from lyceum.core.errors import CheckpointError, ConfigError
from lyceum.core.request import Finish, Request, Sampling
from lyceum.infer.engine import Engine
from lyceum.infer.generate import generate
from lyceum.model.config import Learned
from tests.infer.tiny import END, VOCAB_SIZE, byte_tokenizer, tiny_model

TOKENIZER = byte_tokenizer()
NO_END = byte_tokenizer(eos_ids=())


def random_request(source: random.Random) -> Request:
    size = source.randint(1, 30)
    is_scored = source.random() < 0.3
    return Request(
        tokens=tuple(source.randrange(256) for _ in range(size)),
        sampling=Sampling(
            max_tokens=source.randint(0, 20),
            temperature=source.choice([0.0, 0.7, 1.3]),
            top_k=source.choice([0, 5]),
            top_p=source.choice([1.0, 0.9]),
            repetition_penalty=source.choice([1.0, 1.2]),
            stop=source.choice([(), ("a", "bc"), ("\n",)]),
            seed=source.randrange(1000),
        ),
        score_from=source.randint(1, size) if is_scored else None,
    )


def assert_same(reply, expected):
    assert (reply.tokens, reply.text, reply.finish) == (expected.tokens, expected.text, expected.finish)
    assert reply.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert reply.prompt_logprobs == pytest.approx(expected.prompt_logprobs, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_engine_equals_plain_generation_while_others_join_and_leave_at_any_moment(seed):
    source = random.Random(seed)
    model = tiny_model(seed, positions=Learned() if seed % 2 else None)
    engine = Engine(model, TOKENIZER, max_rows=source.randint(1, 5))
    requests = [random_request(source) for _ in range(14)]
    streams, cancelled = [], set()
    while len(streams) < len(requests) or engine.step():
        if len(streams) < len(requests) and source.random() < 0.5:
            streams.append(engine.submit(requests[len(streams)]))
        if streams and source.random() < 0.05:
            at = source.randrange(len(streams))
            streams[at].cancel()
            cancelled.add(at)
    for at, (stream, request) in enumerate(zip(streams, requests, strict=True)):
        expected = generate(model, TOKENIZER, request)
        reply = stream.reply()
        if at in cancelled and reply.finish is Finish.CANCELLED:
            assert expected.tokens[: len(reply.tokens)] == reply.tokens
        else:
            assert_same(reply, expected)


def test_pieces_add_up_to_the_reply():
    engine = Engine(tiny_model(), NO_END)
    for seed in range(5):
        request = Request(tokens=(65,), sampling=Sampling(max_tokens=40, temperature=1.5, seed=seed, stop=("e",)))
        stream = engine.submit(request)
        pieces = list(stream)
        assert "".join(piece.text for piece in pieces) == stream.reply().text
        assert tuple(token for piece in pieces for token in piece.tokens) == stream.reply().tokens


def test_a_character_is_never_split_and_an_unfinished_one_is_replaced():
    """A model that says the bytes of U+1F600 one by one, then stops in the middle of the next."""
    smile = "\U0001f600".encode()
    model = tiny_model(context_tokens=32)
    with torch.no_grad():
        model.embedding.weight.zero_()
        model.embedding.weight[list(smile), list(range(len(smile)))] = 1.0
        for block in model.blocks:
            block.attention.output.weight.zero_()
            block.feed_forward.down.weight.zero_()
        model.head.weight.zero_()
        for place in range(len(smile)):
            model.head.weight[smile[(place + 1) % len(smile)], place] = 9.0
    stream = Engine(model, NO_END).submit(Request(tokens=tuple(smile[-1:]), sampling=Sampling(max_tokens=6)))
    texts = [piece.text for piece in stream]
    assert texts == ["", "", "", "\U0001f600", "", "", "�"]
    assert stream.reply().text == "\U0001f600�"


def test_the_end_token_ends_the_answer_and_is_no_text():
    model = tiny_model()
    request = Request(tokens=(7,), sampling=Sampling(max_tokens=12))
    unhindered = Engine(model, NO_END).submit(request).reply()
    end = next(token for token in unhindered.tokens if token != unhindered.tokens[0])
    before = unhindered.tokens[: unhindered.tokens.index(end)]
    reply = Engine(model, byte_tokenizer(eos_ids=(END, end))).submit(request).reply()
    assert (reply.tokens, reply.finish) == ((*before, end), Finish.STOP)
    assert reply.text == NO_END.decode(before)


def test_a_request_gets_the_same_answer_alone_and_in_any_batch():
    model = tiny_model(3)
    request = Request(tokens=(1, 2, 3), sampling=Sampling(max_tokens=20, temperature=1.0, seed=11))
    alone = Engine(model, NO_END).submit(request).reply().tokens
    engine = Engine(model, NO_END)
    others = [dataclasses.replace(request, tokens=(i,) * (i + 1)) for i in range(6)]
    streams = [engine.submit(other) for other in (*others[:3], request, *others[3:])]
    assert streams[3].reply().tokens == alone
    reseeded = dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, seed=12))
    assert Engine(model, NO_END).submit(reseeded).reply().tokens != alone


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(tokens=(1,) * 90, sampling=Sampling(max_tokens=7)), r"90 tokens and max_tokens=7 make 97.*reads 96"),
        (Request(tokens=()), "no tokens"),
        (Request(tokens=(VOCAB_SIZE,), sampling=Sampling(max_tokens=1)), "token 257; this model's are 0 to 256"),
        (Request(tokens=(-1,), sampling=Sampling(max_tokens=1)), "token -1"),
        (Request(tokens=(1, 2), sampling=Sampling(max_tokens=1), score_from=0), "score_from is 0"),
        (Request(tokens=(1, 2), sampling=Sampling(max_tokens=1), score_from=3), "score_from is 3"),
    ],
)
def test_requests_that_do_not_fit_are_refused_before_any_work(request_, told):
    engine = Engine(tiny_model(), TOKENIZER)
    with pytest.raises(ConfigError, match=told):
        engine.submit(request_)
    assert engine.step() is False


def test_a_context_filled_to_the_last_token_works():
    model = tiny_model(context_tokens=16)
    request = Request(tokens=(5,) * 10, sampling=Sampling(max_tokens=6, temperature=1.0))
    assert_same(Engine(model, NO_END).submit(request).reply(), generate(model, NO_END, request))


def test_loaded_weights_answer_like_the_model_they_come_from():
    engine, other = Engine(tiny_model(0), NO_END), tiny_model(1)
    request = Request(tokens=(1, 2, 3), sampling=Sampling(max_tokens=12))
    before = engine.submit(request).reply()
    engine.load(other.state_dict())
    assert engine.submit(request).reply().tokens == generate(other, NO_END, request).tokens != before.tokens


def test_weights_that_do_not_fit_are_refused_and_so_is_loading_while_answers_run():
    engine = Engine(tiny_model(), NO_END)
    with pytest.raises(CheckpointError, match=r"no weight 'head\.wait'; did you mean"):
        engine.load({"head.wait": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"head.weight is \(1,\)"):
        engine.load({"head.weight": torch.zeros(1)})
    stream = engine.submit(Request(tokens=(1,), sampling=Sampling(max_tokens=5)))
    engine.step()
    with pytest.raises(ConfigError, match="1 requests are unfinished"):
        engine.load({})
    stream.cancel()
    engine.load({})


def test_an_interrupted_step_can_be_done_again():
    model = tiny_model()
    engine = Engine(model, NO_END)
    request = Request(tokens=(1, 2), sampling=Sampling(max_tokens=10))
    stream = engine.submit(request)
    for _ in range(3):
        engine.step()
    second_block = model.blocks[1].forward
    model.blocks[1].forward = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    model.blocks[1].forward = second_block  # type: ignore[method-assign]
    assert stream.reply().tokens == generate(model, NO_END, request).tokens


def test_damaged_weights_are_told_not_sampled_from():
    model = tiny_model()
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(CheckpointError, match="not numbers"):
        Engine(model, NO_END).submit(Request(tokens=(1,), sampling=Sampling(max_tokens=5))).reply()


def test_times_are_measured():
    reply = Engine(tiny_model(), NO_END).submit(Request(tokens=(1,), sampling=Sampling(max_tokens=9))).reply()
    assert 0 < reply.first_token_s < reply.seconds
