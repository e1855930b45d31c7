"""How long answers will be: Kaplan-Meier over finished requests and the ages of running ones, per length class.

Finished requests alone are biased towards short answers: the long ones are still running. The product-limit estimate
(Kaplan and Meier, 1958) counts a running stream of age u as "at least u".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.autoscaler.arrays import sums_before
from headrace_engine_config.length_class import LENGTH_CLASSES

PRIOR_OUTPUT_TOKENS = 256.0  # mean answer until one was seen: the usual chat answer is 100..400 tokens
POOL_WEIGHT = 20.0  # a class needs so many answers of its own to weigh as much as all classes together
REFRESH_S = 30.0  # answers take seconds to minutes: the law need not follow every tick
FINISHED_LEAST, FINISHED_MOST = 16, 256  # answers looked at, per pod at least and in all: 256 give a mean to 6 %
PRIOR_ANSWERS = 32.0  # answers that the prior weighs: the first to end are the shortest, and say little of the rest
SETTLED = 128.0  # answers seen from which the law is refreshed at leisure, before that at every tick
LAW_STEP = 0.1  # least weight of the newest sample, five minutes: one sample's mean swings by 10 %, its square by 30 %
LEAST_AT_RISK = 3  # answers at risk before a single end may take the curve far down
STREAMS_LEAST, STREAMS_MOST = 8, 128  # the same for running streams


@dataclass(frozen=True, slots=True)
class LengthLaw:
    """First three moments of the output length, per class: E[o], E[o^2], E[o^3], in tokens."""

    at: float = 0.0
    seen: float = 0.0  # answers looked at so far
    finished_total: float = 0.0  # of all engines at `at`, for the rate at which answers end
    mean: tuple[float, ...] = (PRIOR_OUTPUT_TOKENS,) * LENGTH_CLASSES
    square: tuple[float, ...] = (2 * PRIOR_OUTPUT_TOKENS**2,) * LENGTH_CLASSES  # of an exponential law
    cube: tuple[float, ...] = (6 * PRIOR_OUTPUT_TOKENS**3,) * LENGTH_CLASSES


def moments_held(size: float, mean: float, square: float, cube: float) -> tuple[float, float]:
    """KV tokens held, and their squares, summed over the output steps of a request: expected values.

    A prompt of i tokens and an answer of o: i E[o] + E[o^2] / 2, and i^2 E[o] + i E[o^2] + E[o^3] / 3 of the squares.
    i = 10, o = 4: 40 + 8 = 48; 400 + 160 + 21.3 = 581.3.
    """
    return size * mean + square / 2.0, size * size * mean + size * square + cube / 3.0


class Life(NamedTuple):
    """One answer in tokens: watched from `entry` (0: from its start) until `end`, where it finished or still runs."""

    entry: float
    end: float
    finished: bool
    weight: float = 1.0  # streams that a sampled one stands for


def learn(lives: Sequence[Sequence[Life]], at: float, finished_total: float, old: LengthLaw) -> LengthLaw:
    """The law from the lives seen per class. With nothing finished the old law stays."""
    ended = [sum([life.finished for life in part]) for part in lives]
    total = sum(ended)
    if total == 0:
        return old
    pooled = survival_moments([life for part in lives for life in part])
    rows = []
    for part, done in zip(lives, ended, strict=True):
        own = survival_moments(part) if done else pooled
        weight = done / (done + POOL_WEIGHT)
        rows.append(tuple(weight * mine + (1.0 - weight) * all_ for mine, all_ in zip(own, pooled, strict=True)))
    new = zip(*rows, strict=True)
    seen = total + (old.seen or PRIOR_ANSWERS)
    step = max(total / seen, LAW_STEP)
    mixed = (
        tuple(before + step * (now - before) for before, now in zip(column, fresh, strict=True))
        for column, fresh in zip((old.mean, old.square, old.cube), new, strict=True)
    )
    return LengthLaw(at, float(seen), finished_total, *mixed)


def survival_moments(lives: Sequence[Life]) -> tuple[float, float, float]:
    """E[o], E[o^2], E[o^3] of the product-limit estimate with late entry; at least one life must have finished.

    S falls at each finished length by the share of those at risk there. Finished 10 and 20, running 15, all watched
    from the start: S = 2/3 from 10, 0 from 20, so E[o] = 10 + 10 x 2/3 = 16.7, where the finished alone give 15. What
    outlives the longest answer seen gets an exponential tail with the mean life so far: a censored tail has no events.
    """
    columns = np.array(tuple(zip(*lives, strict=True)), dtype=np.float64)
    columns = columns[:, np.lexsort((-columns[2], columns[1]))]  # by end, of equal ends the finished ones first
    entries, ends, finished, weights = columns
    order = entries.argsort()
    entered, left = sums_before(weights[order]), sums_before(weights)
    at_risk = entered[entries[order].searchsorted(ends)] - left[:-1]
    # One early end among late entrants says little: only the last of all may end the curve by itself.
    least = np.full(len(lives), float(LEAST_AT_RISK))
    least[-1] = weights[-1]
    curve = np.ones(len(lives) + 1)
    (1.0 - finished * weights / np.maximum(at_risk, least)).cumprod(out=curve[1:])
    powers = np.zeros((3, len(lives) + 1))
    powers[:, 1:] = ends, ends**2, ends**3
    first, second, third = ((powers[:, 1:] - powers[:, :-1]) @ curve[:-1]).tolist()
    survival, last = float(curve[-1]), float(ends[-1])
    if survival > 0.0:
        tail = max(first, PRIOR_OUTPUT_TOKENS)
        first += survival * tail
        second += survival * 2.0 * (last * tail + tail**2)
        third += survival * 3.0 * (last**2 * tail + 2.0 * last * tail**2 + 2.0 * tail**3)
    return first, second, third


def lives_of(
    outputs: Sequence[float], ages: Sequence[float], window_tokens: float, running_total: float
) -> tuple[list[Life], list[Life]]:
    """Lives of one engine's list of finished answers (newest last) and of a sample of its running streams.

    The list spans `window_tokens` of generation; what began before it is watched only from its start on. Without that a
    short list beside many running streams reads as if nearly nothing ended.
    """
    count = len(outputs)
    back = (np.array(outputs) - window_tokens * np.arange(1, count + 1) / count).clip(0.0).tolist() if count else []
    done = [Life(entry, end, True) for entry, end in zip(back, outputs, strict=True)]
    weight = max(running_total / len(ages), 1.0) if ages else 1.0
    return done, [Life(max(u - window_tokens, 0.0), u, False, weight) for u in ages]
