"""How long answers will be: Kaplan-Meier over finished requests and the ages of running ones, per length class.

Finished requests alone are biased towards short answers: the long ones are still running. The product-limit estimate
(Kaplan and Meier, 1958) counts a running stream of age u as "at least u".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace_engine_config.length_class import LENGTH_CLASSES

PRIOR_OUTPUT_TOKENS = 256.0  # mean answer until one was seen: the usual chat answer is 100..400 tokens
POOL_WEIGHT = 20.0  # a class needs so many answers of its own to weigh as much as all classes together
REFRESH_S = 30.0  # answers take seconds to minutes: the law need not follow every tick
STREAMS_PER_POD = 48  # running streams looked at per pod: the ages of 48 give a median to 15 %


@dataclass(frozen=True, slots=True)
class LengthLaw:
    """First three moments of the output length, per class: E[o], E[o^2], E[o^3], in tokens."""

    at: float = 0.0
    seen: float = 0.0  # answers behind the law
    mean: tuple[float, ...] = (PRIOR_OUTPUT_TOKENS,) * LENGTH_CLASSES
    square: tuple[float, ...] = (2 * PRIOR_OUTPUT_TOKENS**2,) * LENGTH_CLASSES  # of an exponential law
    cube: tuple[float, ...] = (6 * PRIOR_OUTPUT_TOKENS**3,) * LENGTH_CLASSES


def learn(
    finished: Sequence[Iterable[float]], running: Sequence[Iterable[float]], at: float, old: LengthLaw
) -> LengthLaw:
    """The law from output lengths and running ages, each by class. With nothing finished the old law stays."""
    answers = [list(lengths) for lengths in finished]
    ages = [list(lengths) for lengths in running]
    total = sum(len(lengths) for lengths in answers)
    if total == 0:
        return old
    pooled = survival_moments([o for part in answers for o in part], [u for part in ages for u in part])
    rows = []
    for done, alive in zip(answers, ages, strict=True):
        own = survival_moments(done, alive) if done else pooled
        weight = len(done) / (len(done) + POOL_WEIGHT)
        rows.append(tuple(weight * mine + (1.0 - weight) * all_ for mine, all_ in zip(own, pooled, strict=True)))
    mean, square, cube = zip(*rows, strict=True)
    return LengthLaw(at=at, seen=float(total), mean=mean, square=square, cube=cube)


def survival_moments(done: Sequence[float], alive: Sequence[float]) -> tuple[float, float, float]:
    """E[o], E[o^2], E[o^3] of the product-limit estimate; `done` must not be empty.

    S falls at each finished length by the share of those still at risk. done 10, 20; alive 15: S = 2/3 from 10, 0 from
    20, so E[o] = 10 + 10 x 2/3 = 16.7, where the finished alone give 15. What survives the longest answer seen gets an
    exponential tail with the mean life so far, because a censored tail has no events to learn from.
    """
    marks = sorted([(o, 0) for o in done] + [(u, 1) for u in alive])
    at_risk, survival, last = len(marks), 1.0, 0.0
    first = second = third = 0.0
    for value, censored in marks:
        if value > last:
            first += survival * (value - last)
            second += survival * (value**2 - last**2)
            third += survival * (value**3 - last**3)
            last = value
        if not censored:
            survival *= 1.0 - 1.0 / at_risk
        at_risk -= 1
    if survival > 0.0:
        tail = max(first, 1.0)
        first += survival * tail
        second += survival * 2.0 * (last * tail + tail**2)
        third += survival * 3.0 * (last**2 * tail + 2.0 * last * tail**2 + 2.0 * tail**3)
    return first, second, third
