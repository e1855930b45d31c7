"""Scales a trace to a fleet: jittered copies laid over each other, a part of them thinned out, never compressed."""

import heapq
from collections.abc import Iterable, Iterator

from headrace.simulator.request import Arrival
from headrace.simulator.routing import Uniform

JITTER_S = 5.0  # copies of one request are spread so far: longer than the batching of the recorded arrivals (3 s)
COPY_STRIDE = 1 << 40  # added to a copy's block hashes, so that copies are other users' prompts and share no prefix


def scale(arrivals: Iterable[Arrival], factor: float, rng: Uniform) -> Iterator[Arrival]:
    """`factor` times the load: 2.3 gives two copies of every request and a third of three in ten.

    Copies start 0 to 5 s late, except when nothing is added (factor up to 1), which keeps the recorded times. Memory
    is bounded by the requests of 5 s.
    """
    if factor <= 1.0:
        for arrival in arrivals:
            if factor == 1.0 or rng.random() < factor:
                yield arrival
        return
    whole, part = int(factor), factor - int(factor)
    late: list[tuple[float, int, Arrival]] = []
    serial = 0
    for arrival in arrivals:
        while late and late[0][0] <= arrival.t:
            yield heapq.heappop(late)[2]
        copies = whole + (rng.random() < part)
        for copy in range(copies):
            serial += 1
            made = _copy(arrival, copy, arrival.t + JITTER_S * rng.random())
            heapq.heappush(late, (made.t, serial, made))
    while late:
        yield heapq.heappop(late)[2]


def _copy(arrival: Arrival, copy: int, t: float) -> Arrival:
    hashes = arrival.hash_ids
    shifted = tuple(block + copy * COPY_STRIDE for block in hashes) if hashes is not None and copy else hashes
    return Arrival(t, arrival.input_tokens, arrival.output_tokens, shifted)


def window(arrivals: Iterable[Arrival], start_s: float, length_s: float) -> Iterator[Arrival]:
    """The requests of [start, start + length), with times from the window's start."""
    for arrival in arrivals:
        if arrival.t >= start_s + length_s:
            return
        if arrival.t >= start_s:
            yield arrival._replace(t=arrival.t - start_s)
