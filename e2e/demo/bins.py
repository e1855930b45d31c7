"""Rates and latencies over time, from the requests themselves. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from e2e.load.results import Outcome, Result, quantile

Point = tuple[float, float | None]


def rates(times: Iterable[float], start: float, end: float, bin_s: float) -> list[Point]:
    """Events a second by bin, as (middle of the bin in seconds after start, rate)."""
    counts: dict[int, int] = defaultdict(int)
    for at in times:
        counts[math.floor((at - start) / bin_s)] += 1
    return [((index + 0.5) * bin_s, counts[index] / bin_s) for index in range(_bins(start, end, bin_s))]


def quantile_over_time(
    values: Iterable[tuple[float, float]], q: float, start: float, end: float, bin_s: float
) -> list[Point]:
    """A quantile of (time, value) pairs by bin; None where a bin has no value."""
    binned: dict[int, list[float]] = defaultdict(list)
    for at, value in values:
        binned[math.floor((at - start) / bin_s)].append(value)
    return [((index + 0.5) * bin_s, quantile(binned[index], q)) for index in range(_bins(start, end, bin_s))]


def _bins(start: float, end: float, bin_s: float) -> int:
    return max(1, math.ceil((end - start) / bin_s))


def served_at(results: Sequence[Result]) -> list[float]:
    """When each whole answer was complete."""
    return [result.ended_at for result in results if result.outcome is Outcome.OK]


def ttfts(results: Sequence[Result]) -> list[tuple[float, float]]:
    """(when the first token came, TTFT in seconds) of the whole answers."""
    return [
        (result.first_token_at, result.ttft_s)
        for result in results
        if result.outcome is Outcome.OK and result.first_token_at is not None and result.ttft_s is not None
    ]


def tpots(results: Sequence[Result]) -> list[tuple[float, float]]:
    """(when the answer was complete, mean seconds per output token) of the whole answers."""
    return [
        (result.ended_at, result.tpot_s)
        for result in results
        if result.outcome is Outcome.OK and result.tpot_s is not None
    ]


def in_flight(sent_at: Sequence[float], results: Sequence[Result], at: float) -> int:
    """Requests that were due by `at` and not answered yet."""
    return sum(sent <= at for sent in sent_at) - sum(result.ended_at <= at for result in results)
