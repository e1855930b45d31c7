"""Late last: in which order an engine takes the requests that wait, by the TTFT objective.

First come first served makes everybody late once a burst is longer than the objective: each request waits behind all
those whose deadline has passed already. So one that has used up its share of the objective when younger ones wait is
late for good, and is taken when no other waits. While nothing is late the order is that of arrival.

A request's age is told from the newest one that waits, not from a clock: the ranks of an engine order alike only if
they are told the same, and with nobody behind it a request has nobody to give way to.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# Of the TTFT objective that a request may wait and still go first: the rest is for its own prefill, and in a decode
# engine, which sets KV aside before the prefill, for the queue there as well. Half and a quarter: simulated attainment
# differs by less than half a point between 0.3 and 0.6 (docs/decisions/2026-11-23-late-last.md).
SHARES = {"prefill": 0.5, "worker": 0.5, "decode": 0.25}


class QueueConfig(BaseModel):
    """The whole of queue.json, which an engine reads again when it changes. Camel-case keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    order: Literal["LateLast", "Arrival"] = "LateLast"
    ttft_seconds: float = Field(gt=0)
    """The TTFT objective."""
    ttft_per_1k_prompt_seconds: float = Field(default=0.0, ge=0, alias="ttftPer1kPromptSeconds")
    """The objective of a prompt is the larger of `ttft_seconds` and this times its tokens / 1000."""

    def patience_s(self, role: str, prompt_tokens: int) -> float:
        """Seconds by which a request may be older than the newest and still go first; inf: always.

        2 s, 0.5 s per 1k, prefill: 8,000 tokens have 4 s and wait 2 s; 1,000 tokens 1 s, in decode 0.5 s.
        """
        if self.order == "Arrival":
            return math.inf
        return SHARES[role] * max(self.ttft_seconds, self.ttft_per_1k_prompt_seconds * prompt_tokens / 1000.0)


@dataclass(slots=True)
class Stamp:
    """What a request carries from where it was accepted to each rank that orders it."""

    arrived_s: float
    """Of the one clock that stamps all requests of the engine."""
    patience_s: float
    """By how much younger the newest that waits may be."""
    late: bool = False
    """Found late once: it stays so."""


T = TypeVar("T")


def put_late_last(queue: list[T], stamp_of: Callable[[T], Stamp | None]) -> None:
    """Mark what is late in `queue` and put it behind the rest, in place: those in order of arrival, the rest as it was.

    Without a stamp nobody is late. Nothing but the stamps goes into it: the ranks of an engine come to the same order.
    """
    stamps = [stamp for entry in queue if (stamp := stamp_of(entry)) is not None]
    if not stamps:
        return
    newest_s = max(stamp.arrived_s for stamp in stamps)
    found = False
    for stamp in stamps:  # at each step of the scheduler, over all that wait: no sorting unless something is late
        if stamp.late or newest_s - stamp.arrived_s > stamp.patience_s:
            stamp.late = found = True
    if found:
        queue.sort(key=lambda entry: _place(stamp_of(entry)))


def _place(stamp: Stamp | None) -> float:
    """By arrival among the late: those found late before lie behind those found late now, and came before them."""
    return stamp.arrived_s if stamp is not None and stamp.late else -math.inf
