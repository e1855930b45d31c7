"""The arrivals of the last minutes per second, and what their windows say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from headrace.autoscaler.arrays import FloatArray

ASSUMED_PROMPT_TOKENS = 512.0  # request size where only token sums are known: the order of a chat turn

Rows = dict[int, list[float]]

COLUMN_NAMES = ("count", "tokens", "tokens_sq", "context", "prompt", "output", "kv", "kv_sq")
COLUMNS = len(COLUMN_NAMES)
AHEAD_MOST_S = 60  # samples older than half of that tell nothing: what lies further ahead comes from a wrong clock


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Arrivals per second, oldest first; `start` is the epoch second of the first entry.

    `columns` has a row for each of COLUMN_NAMES and a column for each second. It is one array because a quarter of a
    tick would go into 2,400 single numbers; nobody writes to it. Of its last `ahead` seconds some engines have yet to
    tell: they are kept and shown nowhere until then.
    """

    start: int = 0
    columns: FloatArray = field(default_factory=lambda: np.zeros((COLUMNS, 0)))
    ahead: int = 0

    @property
    def told(self) -> FloatArray:
        """The columns of the seconds that every engine has told."""
        told: FloatArray = self.columns[:, : self.seconds]
        return told

    @property
    def seconds(self) -> int:
        """How many seconds every engine has told."""
        return int(self.columns.shape[1]) - self.ahead

    @property
    def end(self) -> int:
        """The epoch second after the last that every engine has told."""
        return self.start + self.seconds

    @property
    def count(self) -> FloatArray:
        """Requests."""
        return self._row(0)

    @property
    def tokens(self) -> FloatArray:
        """New (uncached) prompt tokens."""
        return self._row(1)

    @property
    def context(self) -> FloatArray:
        """Sum over requests of new tokens x mean context."""
        return self._row(3)

    def _row(self, index: int) -> FloatArray:
        row: FloatArray = self.columns[index, : self.seconds]
        return row

    def __eq__(self, other: object) -> bool:
        """The same seconds with the same numbers."""
        if not isinstance(other, History):
            return NotImplemented
        same = (self.start, self.ahead) == (other.start, other.ahead)
        return same and np.array_equal(self.columns, other.columns)

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """A list a column, JSON-able."""
        return {"start": self.start, "ahead": self.ahead, **dict(zip(COLUMN_NAMES, self.columns.tolist(), strict=True))}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "History":
        """What `to_dict` wrote. Raises KeyError, TypeError or ValueError on anything else."""
        columns = np.array([record[name] for name in COLUMN_NAMES], dtype=np.float64)
        return cls(record["start"], columns, record.get("ahead", 0))  # an older record has none


@dataclass(frozen=True, slots=True)
class Rates:
    """Means per second over one window of the history; what the sums are of, demand.py says."""

    seconds: float
    count: float
    tokens: float
    tokens_sq: float  # of the new tokens of a request, squared
    context: float
    prompt: float  # tokens, cached ones included
    output: float  # expected tokens
    kv: float  # expected sum of the KV tokens held over the output steps: o (i + o/2)
    kv_sq: float  # the same for the square of the KV tokens held: ((i + o)^3 - i^3) / 3

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
    """The history up to and including second `front`, at most `length` seconds, and what some engines told beyond it.

    Late rows go where they belong. One engine's lost read must not cost what the others told: those seconds wait.
    """
    if front is None or (not rows and front < history.end):
        return history
    known = history.columns.shape[1]
    first = history.start if known else min((*rows, front))
    told = max(front + 1, history.end)
    end = min(max((told, history.start + known, *(second + 1 for second in rows))), told + AHEAD_MOST_S)
    start = max(first, told - length)
    columns = np.zeros((COLUMNS, end - start))
    kept = history.start + known - start
    if kept > 0:
        columns[:, :kept] = history.columns[:, -kept:]
    for second, row in rows.items():
        if start <= second < end:
            columns[:, second - start] += row
    return History(start, columns, end - told)


def rates(history: History, window_s: int) -> Rates:
    """Means over the last `window_s` seconds of the history, or over all of it if it is shorter."""
    seconds = min(window_s, history.seconds)
    if seconds == 0:
        return Rates(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Rates(float(seconds), *(history.told[:, -seconds:].sum(axis=1) / seconds).tolist())


def dispersion(counts: FloatArray, window_s: int) -> float:
    """Index of dispersion of the counts in windows of `window_s`: variance over mean. 1: Poisson, or too short to say.

    The variance is half the mean squared difference of neighbours (von Neumann, 1941), so that a change of level, which
    rates and forecast follow, does not pass for burstiness.
    """
    windows = len(counts) // window_s
    if windows < 5:  # a variance of fewer than five values says little
        return 1.0
    sums = counts[len(counts) - windows * window_s :].reshape(windows, window_s).sum(axis=1)
    mean = float(sums.sum()) / windows
    if mean <= 0:
        return 1.0
    steps = sums[1:] - sums[:-1]
    return float(steps @ steps) / (2.0 * (windows - 1)) / mean
