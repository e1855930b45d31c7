"""What became of each request, and honest counts and quantiles over them. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

QUANTILES = (0.5, 0.9, 0.95, 0.99)


class Outcome(StrEnum):
    """How a request ended. Truncated: something had been streamed, and the rest of what was asked for never came."""

    OK = "ok"
    FAILED = "failed"
    TRUNCATED = "truncated"


@dataclass(frozen=True, slots=True)
class Result:
    """One request. Times are epoch seconds; latencies count from `scheduled_at`, so that waiting for a slot shows."""

    number: int
    phase: str
    scheduled_at: float
    sent_at: float
    ended_at: float
    outcome: Outcome
    error: str = ""
    status: int | None = None
    prompt_tokens: int | None = None  # the server's own count
    asked_tokens: int = 0
    output_tokens: int | None = None  # the server's own count; None: it gave none
    first_token_at: float | None = None
    last_token_at: float | None = None
    gaps_s: tuple[float, ...] = ()  # between chunks that carry text

    @property
    def ttft_s(self) -> float | None:
        """Seconds from the scheduled arrival to the first text."""
        return None if self.first_token_at is None else self.first_token_at - self.scheduled_at

    @property
    def tpot_s(self) -> float | None:
        """Mean seconds per output token after the first."""
        if self.first_token_at is None or self.last_token_at is None or (self.output_tokens or 0) < 2:
            return None
        return (self.last_token_at - self.first_token_at) / ((self.output_tokens or 0) - 1)

    def as_json(self) -> dict[str, Any]:
        """A line of the results file."""
        return {**asdict(self), "ttft_s": self.ttft_s, "tpot_s": self.tpot_s}


def quantile(values: Sequence[float], q: float) -> float | None:
    """The nearest-rank quantile: of 1..100, q=0.95 is 95. None without values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """p50, p90, p95 and p99 of the values that are known."""
    known = [value for value in values if value is not None]
    return {f"p{round(q * 100)}": quantile(known, q) for q in QUANTILES}


def summarise(results: Sequence[Result]) -> dict[str, Any]:
    """Counts, errors and quantiles. Latencies are those of whole answers: a cut one has no honest latency."""
    outcomes = Counter(result.outcome for result in results)
    whole = [result for result in results if result.outcome is Outcome.OK]
    return {
        "sent": len(results),
        "ok": outcomes[Outcome.OK],
        "failed": outcomes[Outcome.FAILED],
        "truncated": outcomes[Outcome.TRUNCATED],
        "errors": dict(Counter(result.error for result in results if result.error).most_common(20)),
        "prompt_tokens": sum(result.prompt_tokens or 0 for result in whole),
        "output_tokens": sum(result.output_tokens or 0 for result in whole),
        "ttft_s": quantiles(result.ttft_s for result in whole),
        "tpot_s": quantiles(result.tpot_s for result in whole),
        "itl_s": quantiles(gap for result in whole for gap in result.gaps_s),
    }


def by_phase(results: Sequence[Result]) -> Mapping[str, dict[str, Any]]:
    """The same for each phase, in the order in which they were first met."""
    phases = dict.fromkeys(result.phase for result in results)
    return {phase: summarise([result for result in results if result.phase == phase]) for phase in phases}
