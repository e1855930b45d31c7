"""A request on its way through the simulated fleet."""

from collections.abc import Sequence
from typing import NamedTuple

from headrace_engine_config.length_class import length_class


class Arrival(NamedTuple):
    """One row of a trace. `hash_ids` name the prompt's 512-token blocks, equal ids meaning equal prefixes."""

    t: float  # seconds from the trace's start
    input_tokens: int
    output_tokens: int
    hash_ids: Sequence[int] | None = None


class Live:
    """A request that has arrived and not finished. Engines write into it; the recorder reads it when it finishes."""

    __slots__ = (
        "arrived",
        "context",
        "finish_step",
        "first",
        "generated",
        "hash_ids",
        "hit",
        "isl",
        "length_class",
        "osl",
        "queued_at",
        "retractions",
        "serial",
        "server",
        "todo",
        "upstream",
    )

    def __init__(self, serial: int, arrival: Arrival) -> None:
        self.serial = serial
        self.arrived = arrival.t
        self.isl = arrival.input_tokens if arrival.input_tokens > 0 else 1
        self.osl = arrival.output_tokens if arrival.output_tokens > 0 else 1
        self.hash_ids = arrival.hash_ids
        self.length_class = length_class(self.isl)
        self.hit = 0  # prompt tokens found in the prefix cache
        self.todo = self.isl  # prompt tokens still to prefill
        self.context = 0  # prompt tokens already in KV
        self.generated = 0  # output tokens as of the last time the request left a batch
        self.finish_step = 0  # the decode step, counted from the engine's start, that makes the last token
        self.first = -1.0  # when the client saw the first token
        self.queued_at = arrival.t  # when the engine's scheduler got it
        self.retractions = 0
        self.upstream: object | None = None  # the prefill engine
        self.server: object | None = None  # the decode or unified engine

    @property
    def ttft_s(self) -> float:
        """Seconds from the arrival to the first token."""
        return self.first - self.arrived

    def tpot_s(self, finished_at: float) -> float | None:
        """Mean seconds per token after the first; None for an answer of one token."""
        return (finished_at - self.first) / (self.osl - 1) if self.osl > 1 else None
