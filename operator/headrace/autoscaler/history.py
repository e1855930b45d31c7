"""The arrivals of the last minutes per second, and what their windows say."""

import itertools
from dataclasses import dataclass

COLUMNS = 8
ASSUMED_PROMPT_TOKENS = 512.0  # request size where only token sums are known: the order of a chat turn

Rows = dict[int, list[float]]


@dataclass(frozen=True, slots=True)
class History:
    """Arrivals per second, oldest first; `start` is the epoch second of the first entry, all columns equally long."""

    start: int = 0
    count: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()  # new (uncached) prompt tokens
    tokens_sq: tuple[float, ...] = ()  # sum over requests of their new tokens squared
    context: tuple[float, ...] = ()  # sum over requests of new tokens x mean context
    prompt: tuple[float, ...] = ()  # prompt tokens, cached ones included
    output: tuple[float, ...] = ()  # expected output tokens
    kv: tuple[float, ...] = ()  # expected sum of the KV tokens held over the output steps: o (i + o/2)
    kv_sq: tuple[float, ...] = ()  # the same for the square of the KV tokens held: ((i + o)^3 - i^3) / 3

    @property
    def end(self) -> int:
        """The epoch second after the last entry."""
        return self.start + len(self.count)


@dataclass(frozen=True, slots=True)
class Rates:
    """Means per second over one window of the history."""

    seconds: float
    count: float
    tokens: float
    tokens_sq: float
    context: float
    prompt: float
    output: float
    kv: float
    kv_sq: float

    @property
    def request_tokens(self) -> float:
        """New tokens of the mean request."""
        return self.tokens / self.count if self.count > 0 else ASSUMED_PROMPT_TOKENS

    @property
    def mean_context(self) -> float:
        """Context of the mean new token."""
        return self.context / self.tokens if self.tokens > 0 else ASSUMED_PROMPT_TOKENS / 2.0

    @property
    def prompt_tokens(self) -> float:
        """Prompt of the mean request, cached tokens included."""
        return self.prompt / self.count if self.count > 0 else ASSUMED_PROMPT_TOKENS

    @property
    def size_variation(self) -> float:
        """Squared coefficient of variation of the new tokens of a request."""
        if self.count <= 0 or self.tokens <= 0:
            return 1.0
        return max(self.tokens_sq * self.count / self.tokens**2 - 1.0, 0.0)


def extend(history: History, rows: Rows, front: int | None, length: int) -> History:
    """The history up to and including second `front`, at most `length` seconds; late rows go where they belong."""
    if front is None or (not rows and front < history.end):
        return history
    first = history.start if history.count else min((*rows, front))
    end = max(front + 1, history.end)
    start = max(first, end - length)
    columns = (
        history.count, history.tokens, history.tokens_sq, history.context,
        history.prompt, history.output, history.kv, history.kv_sq,
    )  # fmt: skip
    drop = start - history.start if history.count else 0
    pad = (0.0,) * (end - max(history.end if history.count else start, start))
    lists = [[*column[drop:], *pad] for column in columns]
    for second, row in rows.items():
        index = second - start
        if 0 <= index < end - start:
            for column, value in zip(lists, row, strict=True):
                column[index] += value
    return History(start, *(tuple(column) for column in lists))


def rates(history: History, window_s: int) -> Rates:
    """Means over the last `window_s` seconds of the history, or over all of it if it is shorter."""
    seconds = min(window_s, len(history.count))
    if seconds == 0:
        return Rates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    columns = (
        history.count, history.tokens, history.tokens_sq, history.context,
        history.prompt, history.output, history.kv, history.kv_sq,
    )  # fmt: skip
    return Rates(float(seconds), *(sum(column[-seconds:]) / seconds for column in columns))


def dispersion(counts: tuple[float, ...], window_s: int) -> float:
    """Index of dispersion of the counts in windows of `window_s`: variance over mean. 1: Poisson, or too short to say.

    The variance is half the mean squared difference of neighbours (von Neumann, 1941), so that a change of level, which
    rates and forecast follow, does not pass for burstiness.
    """
    windows = len(counts) // window_s
    if windows < 5:  # a variance of fewer than five values says little
        return 1.0
    offset = len(counts) - windows * window_s
    sums = [sum(counts[offset + i * window_s : offset + (i + 1) * window_s]) for i in range(windows)]
    mean = sum(sums) / windows
    if mean <= 0:
        return 1.0
    squares = sum((after - before) ** 2 for before, after in itertools.pairwise(sums))
    return squares / (2.0 * (windows - 1)) / mean
