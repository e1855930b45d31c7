"""Late last: in which order an engine takes the requests that wait, by the TTFT objective.

First come first served makes everybody late once a burst is longer than the objective: each request waits behind all
those whose deadline has passed already. So one that has used up its share of the objective when younger ones wait is
late for good, and is taken when no other waits. While nothing is late the order is that of arrival.

A request's age is told from the newest one that waits, not from a clock: the ranks of an engine order alike only if
they are told the same, and with nobody behind it a request has nobody to give way to.
"""

import math
from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

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


class Waits(Protocol):
    """What is known of a request that waits."""

    late: bool
    """Found late once: it stays so."""

    @property
    def arrived_s(self) -> float | None:
        """Seconds of the one clock that stamps all requests of the engine; None: not stamped, never late."""

    @property
    def patience_s(self) -> float:
        """By how much younger the newest that waits may be."""


T = TypeVar("T")


def put_late_last(queue: list[T], of: Callable[[T], Waits]) -> None:
    """Mark what is late in `queue` and put it behind the rest, in place; both parts keep their order.

    Nothing but what the requests carry goes into it: the ranks of an engine come to the same order.
    """
    waits = [of(entry) for entry in queue]
    newest = max((each.arrived_s for each in waits if each.arrived_s is not None), default=None)
    if newest is None:
        return
    for each in waits:
        if each.arrived_s is not None and newest - each.arrived_s > each.patience_s:
            each.late = True
    if any(each.late for each in waits):
        queue.sort(key=lambda entry: of(entry).late)
