"""One running answer: its tokens, the text that can be shown so far, why it ended."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from lyceum.core.request import Finish, Piece, Reply, Request
from lyceum.infer.stops import StopStrings
from lyceum.tokenizer.tokenizer import Detokenizer, Tokenizer


class Answer:
    """The Stream an engine hands out. `advance(answer, n)` steps the engine unless the answer has more than n tokens.

    `lock` is the engine's: one thread at a time steps it, submits to it or cancels.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        *,
        advance: Callable[["Answer", int], None],
        lock: threading.RLock,
    ) -> None:
        self.request = request
        self.tokens: list[int] = []
        self.history = list(request.tokens)  # prompt and answer
        self.logprobs: list[float] = []
        self.prompt_logprobs: tuple[float, ...] = ()
        self.finish: Finish | None = None
        self.unread: deque[Piece] = deque()
        self._advance = advance
        self._lock = lock
        self._eos_ids = frozenset(tokenizer.eos_ids)
        self._detokenizer = Detokenizer(tokenizer)
        self._stops = StopStrings(request.sampling.stop)
        self._text: list[str] = []
        self._started = time.monotonic()
        self._first_token_s = self._seconds = 0.0

    def __iter__(self) -> Iterator[Piece]:
        """Give the Pieces as they come; they add up to the Reply's text and tokens."""
        while True:
            if self.unread:
                yield self.unread.popleft()
            elif self.finish is None:
                self._advance(self, len(self.tokens))
            else:
                return

    def cancel(self) -> None:
        """Stop generating; what is held back is shown and the Reply says CANCELLED."""
        with self._lock:
            if self.finish is None:
                self.end(Finish.CANCELLED)

    def reply(self) -> Reply:
        """Run to the end and give the whole answer. Its tokens hold the end token or stop string, its text does not."""
        while self.finish is None:
            self._advance(self, len(self.tokens))
        return Reply(
            text="".join(self._text),
            tokens=tuple(self.tokens),
            finish=self.finish,
            prompt_tokens=len(self.request.tokens),
            logprobs=tuple(self.logprobs),
            prompt_logprobs=self.prompt_logprobs,
            first_token_s=self._first_token_s,
            seconds=self._seconds,
        )

    def take(self, token: int, logprob: float) -> None:
        """Add the next token; ends the answer at an end token, a complete stop string or the last allowed."""
        if not self.tokens:
            self._first_token_s = time.monotonic() - self._started
        self.tokens.append(token)
        self.logprobs.append(logprob)
        self.history.append(token)
        if token in self._eos_ids:
            self.end(Finish.STOP, token)
            return
        text = self._stops.push(self._detokenizer.push(token))
        self._show(text, (token,))
        if self._stops.is_stopped:
            self.end(Finish.STOP)
        elif len(self.tokens) == self.request.sampling.max_tokens:
            self.end(Finish.LENGTH)

    def end(self, finish: Finish, *tokens: int) -> None:
        """Show what was held back, with the `tokens` that brought no text, and close the answer."""
        text = self._stops.push(self._detokenizer.finish()) + self._stops.finish()
        if text or tokens:
            self._show(text, tokens)
        self._seconds = time.monotonic() - self._started
        self.finish = finish

    def _show(self, text: str, tokens: tuple[int, ...]) -> None:
        self._text.append(text)
        self.unread.append(Piece(text=text, tokens=tokens))
