"""What the bursts of the look-back ask of prefill."""

import numpy as np

from headrace.autoscaler.arrays import FloatArray, sums_before
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.history import History, Rates, dispersion

ENVELOPE_WINDOWS_S = (1, 2, 5, 10, 20, 30, 60)  # from one step to the longest burst that a queue should carry
STILL = 1.0 + 1e-12  # a step by less is rounding
DISPERSION_WINDOWS = 10  # fewer give a variance that is off by half
PRIOR_WOBBLE = 0.1  # squared relative deviation of the rate over 10 s: chat has 0.02, code completion 0.3 and more
PRIOR_MOST = 20.0  # smooth traffic has an index of 2 to 10, bursty of 40 to 90: more room at a start costs too much
KNOWN_S = 300.0  # after which nothing but what was seen counts
DISPERSION_WINDOW_S = 10  # bursts of the order of the TTFT budget and of the answers


def envelope(
    history: History, model: CapacityModel, budget_s: float, miss_share: float, *, late_last: bool = False
) -> tuple[float, int]:
    """Replicas that the bursts of the look-back needed: max over tau of the quantile of W_tau / (tau + budget).

    W_tau is the work that arrived within tau seconds; it must be done tau + budget after its first request. 12 work
    seconds within 5 s and a budget of 1 s: 12 / 6 = 2 replicas. The quantile is over requests, as the objective is:
    a window weighs as many as arrived in its last second, so that a second with 40 requests counts 40 times what one
    with a single request does. A request is computed by one replica: no more of them help than requests came.
    `late_last`: of a burst that is too large only what does not fit is late, not all that comes behind it.
    """
    unit, slope = _prices(model)
    count = history.count
    work = sums_before(unit * history.tokens + slope * history.context)
    came = sums_before(count)
    best, best_window = 0.0, 1
    for window in reversed(ENVELOPE_WINDOWS_S):  # the longest binds most often, and counts of equals
        if window > history.seconds:
            continue
        grown = (work[window:] - work[:-window]) / (window + budget_s)
        if grown.max() < best:  # far cheaper than to sort them
            continue
        needs = np.minimum(grown, np.ceil(came[window:] - came[:-window]))
        weights = count[window - 1 :]
        if late_last:
            need = _level_that_serves(needs, weights, miss_share, best)
        else:
            need = _weighted_quantile(needs, weights, 1.0 - miss_share)
        if need > best:
            best, best_window = need, window
    return best, best_window


def _weighted_quantile(values: FloatArray, weights: FloatArray, level: float) -> float:
    """The least value at or below which `level` of the weight lies. No weight: 0, nothing was asked for."""
    order = values.argsort()
    share = weights[order].cumsum()
    if share[-1] <= 0.0:
        return 0.0
    return float(values[order[share.searchsorted(level * share[-1])]])


def _level_that_serves(needs: FloatArray, weights: FloatArray, missed: float, least: float) -> float:
    """The lowest n from `least` on that leaves at most `missed` of the weight unserved: 1 - n / v of each need v > n.

    Needs of 2 and 10 of equal weight, 0.2 missed: 6, as (10 - 6) / 10 x 0.5 = 0.2. What is left falls with n in ever
    flatter straight lines, so Newton's steps from below end on n, and a `least` that is enough costs one of them.
    """
    allowed, n = missed * float(weights.sum()), least
    while True:
        short = needs > n
        weight, need = weights[short], needs[short]
        slope = float((weight / need).sum())
        if slope <= 0.0:
            return n
        further = (float(weight.sum()) - allowed) / slope
        if further <= n * STILL:
            return n
        n = further


def work_rate(rate: Rates, model: CapacityModel) -> float:
    """Replica-seconds of prefill that arrive per second."""
    unit, slope = _prices(model)
    return unit * rate.tokens + slope * rate.context


def _prices(model: CapacityModel) -> tuple[float, float]:
    unit = model.token_price_s(0.0)
    return unit, model.token_price_s(1.0) - unit


def history_dispersion(history: History) -> float:
    """Index of dispersion of arrivals in 10 s windows, in shorter ones until there are ten; at least Poisson's 1.

    Until five minutes were watched the load is taken for a bursty one: 10 requests a second that wobble by 32 %
    have 1 + 0.1 x 100 = 11.
    """
    seconds = history.seconds
    if not seconds:
        return 1.0
    window = min(max(seconds // DISPERSION_WINDOWS, 1), DISPERSION_WINDOW_S)
    prior = min(1.0 + PRIOR_WOBBLE * DISPERSION_WINDOW_S * float(history.count.sum()) / seconds, PRIOR_MOST)
    return max(dispersion(history.count, window), max(1.0 - seconds / KNOWN_S, 0.0) * prior, 1.0)
