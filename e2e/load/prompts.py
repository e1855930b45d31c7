"""Prompts of a wished length in tokens, unique from their first token on (so that no prefix cache can help)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

Encode = Callable[[str], Sequence[int]]

# Words that a small byte-level vocabulary splits differently, so that prompts look like text and not like one token.
_TEXT = """
river water wheel mill stone channel gate flow level spring rain valley power grain turn slow fast deep wide morning
evening winter summer bridge road village market bread flour hand tool iron wood rope chain barrel
"""
WORDS = _TEXT.split()


class PromptMaker:
    """Makes prompts for one tokenizer.

    A byte-level BPE tokenizer splits at spaces before it merges, so the tokens of " river water" are those of " river"
    and those of " water": a prompt's length is the sum over its words.
    """

    def __init__(self, encode: Encode, seed: int) -> None:
        self._encode = encode
        self._seed = seed
        self._word_tokens = {word: len(encode(f" {word}")) for word in WORDS}
        self._filler = min(WORDS, key=lambda word: (self._word_tokens[word], word))
        self._overhead_tokens = 0

    def set_overhead(self, asked_tokens: int, counted_tokens: int) -> None:
        """Learn the chat template's tokens from one answered request: what the engine counted beyond the text."""
        self._overhead_tokens = max(0, self._overhead_tokens + counted_tokens - asked_tokens)

    def make(self, number: int, tokens: int, shared_share: float = 0.0) -> str:
        """A prompt of `tokens` tokens (template included) whose first share is the same for all numbers.

        Never shorter than its unique head; off by at most the shortest word's tokens less one.
        """
        wished = max(1, tokens - self._overhead_tokens)
        shared = self._fill("", Random(f"{self._seed}/shared"), int(wished * shared_share))
        text = f"{shared} {number}" if shared else str(number)
        return self._fill(text, Random(f"{self._seed}/{number}"), wished)

    def count(self, text: str) -> int:
        """Tokens of a text without the chat template."""
        return len(self._encode(text))

    def _fill(self, text: str, rng: Random, tokens: int) -> str:
        left = tokens - (self.count(text) if text else 0)
        words = [text] if text else []
        while left > 0:
            word = rng.choice(WORDS)
            if self._word_tokens[word] > left:
                word = self._filler
            if self._word_tokens[word] > left:
                break
            words.append(word)
            left -= self._word_tokens[word]
        return " ".join(words)


def tokenizer_of(model_dir: Path) -> Encode:
    """The model's own tokenizer (`tokenizer.json`), without special tokens."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - only where a model's own tokenizer is asked for

    path = model_dir / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: make the tiny model with `headrace-engine make-tiny-model`")
    tokenizer = Tokenizer.from_file(str(path))

    def encode(text: str) -> Sequence[int]:
        ids: Sequence[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return encode
