"""Break lines between words while text streams in, and keep control characters from a terminal."""

from collections.abc import Callable

from prompt_toolkit.utils import get_cwidth

# An answer may hold escape sequences that move the cursor, rename the window or worse: only line ends and tabs pass.
CONTROL_CHARACTERS = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


class Wrapper:
    """Give back what can be printed: the last word waits until it is complete, so that it fits its line."""

    def __init__(self, columns: Callable[[], int]) -> None:
        self._columns = columns  # asked again and again: windows are resized
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """The text ready to print after some more came in."""
        ready = ""
        for letter in text.translate(CONTROL_CHARACTERS):
            if letter in " \t\n":
                ready += self.flush() + self._space(letter)
            elif get_cwidth(letter) > 1:  # Chinese or Japanese: a line may end after any sign
                ready += self.flush()
                self._word = letter
                ready += self.flush()
            else:
                self._word += letter
                if get_cwidth(self._word) >= self._columns():
                    ready += self.flush()
        return ready

    def flush(self) -> str:
        """The word that waits, on this line or the next."""
        word, self._word = self._word, ""
        width = get_cwidth(word)
        is_over = self._column > 0 and self._column + width > self._columns()
        self._column = width if is_over else self._column + width
        return "\n" + word if is_over else word

    def _space(self, letter: str) -> str:
        if letter == "\n":
            self._column = 0
            return letter
        width = 8 - self._column % 8 if letter == "\t" else 1
        if self._column + width >= self._columns():
            return ""  # the next word goes to the next line anyway
        self._column += width
        return letter
