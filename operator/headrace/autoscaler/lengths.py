"""How long answers will be: Kaplan-Meier over finished requests and the ages of running ones, per length class.

Finished requests alone are biased towards short answers: the long ones are still running. The product-limit estimate
(Kaplan and Meier, 1958) counts a running stream of age u as "at least u".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from headrace.autoscaler.arrays import FloatArray, sums_before
from headrace.autoscaler.signals import FinishedRequest, RunningStream
from headrace_engine_config.length_class import LENGTH_CLASSES, length_class

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


class Life(IntEnum):
    """The rows of an array of answers; each column is one, watched from `ENTRY` until `END`, in tokens."""

    ENTRY = 0  # 0: from its start
    END = 1
    FINISHED = 2  # 1: ended there, 0: still runs
    WEIGHT = 3  # streams that a sampled one stands for
    KIND = 4  # length class of its prompt


def learn(lives: FloatArray, at: float, finished_total: float, old: LengthLaw) -> LengthLaw:
    """The law from the lives seen (a row for each of Life). With nothing finished the old law stays."""
    total = float(lives[Life.FINISHED].sum())
    if total == 0.0:
        return old
    lives = by_end(lives)
    kinds = lives[Life.KIND]
    ended = np.bincount(kinds.astype(int), lives[Life.FINISHED], LENGTH_CLASSES).tolist()
    pooled = survival_moments(lives)
    rows = []
    for kind, done in enumerate(ended):
        own = survival_moments(lives[:, kinds == kind]) if done else pooled
        weight = done / (done + POOL_WEIGHT)
        rows.append(tuple([weight * mine + (1.0 - weight) * all_ for mine, all_ in zip(own, pooled, strict=True)]))
    new = zip(*rows, strict=True)
    seen = total + (old.seen or PRIOR_ANSWERS)
    step = max(total / seen, LAW_STEP)
    mixed = (
        tuple([before + step * (now - before) for before, now in zip(column, fresh, strict=True)])
        for column, fresh in zip((old.mean, old.square, old.cube), new, strict=True)
    )
    return LengthLaw(at, seen, finished_total, *mixed)


def by_end(lives: FloatArray) -> FloatArray:
    """The columns sorted by end, of equal ends the finished ones first. Those of one class stay sorted among them."""
    return lives[:, np.lexsort((-lives[Life.FINISHED], lives[Life.END]))]


def survival_moments(lives: FloatArray) -> tuple[float, float, float]:
    """E[o], E[o^2], E[o^3] of the product-limit estimate with late entry; at least one life must have finished.

    `lives` as `by_end` sorts them. S falls at each finished length by the share of those at risk there. Finished 10
    and 20, running 15, all watched from the start: S = 2/3 from 10, 0 from 20, so E[o] = 10 + 10 x 2/3 = 16.7, where
    the finished alone give 15. What outlives the longest answer seen gets an exponential tail with the mean life so
    far: a censored tail has no events.
    """
    entries, ends, finished, weights, _ = lives
    count = len(ends)
    order = entries.argsort()
    entered, left = sums_before(weights[order]), sums_before(weights)
    at_risk = entered[entries[order].searchsorted(ends)] - left[:-1]
    # One early end among late entrants says little: only the last of all may end the curve by itself.
    least = np.full(count, float(LEAST_AT_RISK))
    least[-1] = weights[-1]
    curve = np.ones(count + 1)
    (1.0 - finished * weights / np.maximum(at_risk, least)).cumprod(out=curve[1:])
    powers = np.zeros((3, count + 1))
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
    finished: Sequence[FinishedRequest],
    running: Sequence[RunningStream],
    window_tokens: float,
    running_total: float,
) -> FloatArray:
    """Lives of one engine's list of finished answers (newest last) and of a sample of its running streams.

    The list spans `window_tokens` of generation; what began before it is watched only from its start on. Without that a
    short list beside many running streams reads as if nearly nothing ended.
    """
    count, alive = len(finished), len(running)
    lives = np.ones((len(Life), count + alive))
    lives[Life.END] = [f.output_tokens for f in finished] + [s.age_tokens for s in running]
    lives[Life.KIND] = [f.length_class for f in finished] + [length_class(s.prompt_tokens) for s in running]
    lives[Life.FINISHED, count:] = 0.0
    lives[Life.WEIGHT, count:] = max(running_total / alive, 1.0) if alive else 1.0
    # The newest answer ended at the window's end, the oldest at its begin: each was watched for what came before it.
    watched = np.full(count + alive, window_tokens)
    watched[:count] *= np.arange(1, count + 1) / max(count, 1)
    lives[Life.ENTRY] = np.maximum(lives[Life.END] - watched, 0.0)
    return lives
