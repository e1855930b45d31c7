"""Where the offered load will be when a pod ordered now is ready: an upper quantile with learned errors.

Three simple candidates forecast the token rate one lead time ahead. Each keeps its own relative errors at that horizon;
the forecast is the point plus the error quantile (split conformal prediction), of the candidate whose upper forecasts
had the least pinball loss lately. It only ever adds to the reactive rate.
"""

import math
from dataclasses import dataclass, replace

from headrace.autoscaler.history import History

BUCKET_S = 10  # resolution of the memory: a sixth of the shortest window
RING = 120  # buckets kept, 20 minutes: the longest lead time of 10 minutes and five minutes before it
ISSUE_EVERY = 3  # an error every 30 s: closer ones repeat each other
ERRORS_KEPT = 240  # errors per candidate: two hours
ERRORS_NEEDED = 20  # fewer say nothing about a 90 % quantile: until then the reactive rate stands alone
WORST_ERROR = 1.0  # a rise from next to nothing is no measure of the next one: errors count as at most double
LOSS_STEP = 0.1  # weight of the newest loss
DAMPING = 0.9  # of the trend per minute: trends of minutes seldom last an hour
TREND_ERRORS = 2.0  # standard errors between the minute and the five minutes before a slope is believed
GROWTH_CAP = 0.5  # most that a forecast may add before it has a day of history
DAY_S = 86400.0

MINUTE, FIVE = 60 // BUCKET_S, 300 // BUCKET_S


@dataclass(frozen=True, slots=True)
class ForecastState:
    """Token rates per bucket, oldest first, `end` the index of the bucket after the last; errors per candidate."""

    end: int = 0
    begun: int = 0
    ring: tuple[float, ...] = ()
    errors: tuple[tuple[float, ...], ...] = ((), (), ())
    losses: tuple[float, ...] = (0.0, 0.0, 0.0)
    point: float = 0.0  # tokens per second at the horizon, by the best candidate
    level: float = 0.0  # of the same buckets: the larger of their last minute and last five
    error: float = 0.0  # its error quantile, relative
    best: int = 0


CANDIDATES = ("last minute", "last five minutes", "damped trend")


def observe(state: ForecastState, history: History, horizon_s: float, level: float) -> ForecastState:
    """The state after the buckets that the history completed. `level`: the quantile wanted, 0..1."""
    last = history.end // BUCKET_S  # buckets before this index are complete
    if not history.seconds or last <= state.end:
        return state
    if not state.ring or state.end * BUCKET_S < history.start:  # the first look, or a gap longer than the history
        first = -(-history.start // BUCKET_S)
        state = replace(state, end=first, begun=state.begun or first, ring=())
    ring, index = list(state.ring), state.end
    issues = []
    while index < last:
        offset = index * BUCKET_S - history.start
        ring.append(float(history.tokens[offset : offset + BUCKET_S].sum()) / BUCKET_S)
        index += 1
        if index % ISSUE_EVERY == 0:
            issues.append(len(ring))
    steps = max(round(horizon_s / BUCKET_S), 1)
    for length in issues:
        state = _score(state, ring[:length], steps, level)
    best = min(range(len(CANDIDATES)), key=lambda i: state.losses[i])
    return replace(
        state,
        end=index,
        ring=tuple(ring[-RING:]),
        point=_points(ring, steps)[best],
        level=max(_mean(ring, MINUTE), _mean(ring, FIVE)),
        error=_quantile(state.errors[best], level),
        best=best,
    )


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the forecast adds to the reactive rate: a factor of at least 1, and the share that it may be off by."""

    trend: float = 1.0
    error: float = 0.0  # the error quantile, 0..0.5: a margin, to be joined with the other margins
    tried: bool = False  # enough forecasts have been judged for the error to mean something


def outlook(state: ForecastState, now: float) -> Outlook:
    """The forecast relative to the level that it was made from, for the reactive rate to be raised by.

    Not relative to the reactive rate itself, which is some seconds newer: a fall since then would look like growth to
    come. Never below 1; capped until a day of history was seen.
    """
    if state.level <= 0.0 or state.point <= 0.0:
        return Outlook()
    cap = math.inf if now - state.begun * BUCKET_S >= DAY_S else GROWTH_CAP
    trend = 1.0 + min(max(state.point / state.level - 1.0, 0.0), cap)
    upper = state.point * (1.0 + state.error) / state.level
    tried = len(state.errors[state.best]) >= ERRORS_NEEDED
    return Outlook(trend, max(min(upper, 1.0 + cap) / trend - 1.0, 0.0), tried)


def _score(state: ForecastState, ring: list[float], steps: int, level: float) -> ForecastState:
    """Judge the forecasts made `steps` buckets ago by the last minute."""
    past = ring[:-steps]
    if len(past) < FIVE:  # what a service did in its first minutes says nothing about the next hour
        return state
    actual = _mean(ring, MINUTE)
    errors, losses = list(state.errors), list(state.losses)
    for i, point in enumerate(_points(past, steps)):
        scale = max(point, _mean(past, FIVE), 1e-9)
        miss = (actual - point * (1.0 + _quantile(errors[i], level))) / scale
        losses[i] += LOSS_STEP * (max(level * miss, (level - 1.0) * miss) - losses[i])
        errors[i] = (*errors[i], min((actual - point) / scale, WORST_ERROR))[-ERRORS_KEPT:]
    return replace(state, errors=tuple(errors), losses=tuple(losses))


def _points(ring: list[float], steps: int) -> tuple[float, float, float]:
    """The candidates' point forecasts from a ring, in tokens per second."""
    minute, five = _mean(ring, MINUTE), _mean(ring, FIVE)
    return minute, five, _trend(ring, minute, five, steps)


def _trend(ring: list[float], minute: float, five: float, steps: int) -> float:
    recent = ring[-FIVE:]
    if len(recent) < 2 * MINUTE:
        return minute
    spread = math.sqrt(sum((value - five) ** 2 for value in recent) / (len(recent) - 1) / MINUTE)
    if abs(minute - five) <= TREND_ERRORS * spread:
        return minute
    between_s = (len(recent) - MINUTE) * BUCKET_S / 2.0  # between the centres of the two windows
    ahead_min = steps * BUCKET_S / 60.0
    damped_s = 60.0 * (1.0 - math.pow(DAMPING, ahead_min)) / -math.log(DAMPING)
    return max(minute + (minute - five) / between_s * damped_s, 0.0)


def _quantile(errors: tuple[float, ...], level: float) -> float:
    """The conformal quantile of the relative errors, at least 0; 0 while there are too few."""
    if len(errors) < ERRORS_NEEDED:
        return 0.0
    ordered = sorted(errors)
    return max(ordered[min(math.ceil(level * (len(ordered) + 1)) - 1, len(ordered) - 1)], 0.0)


def _mean(values: list[float], count: int) -> float:
    part = values[-count:]
    return sum(part) / len(part) if part else 0.0
