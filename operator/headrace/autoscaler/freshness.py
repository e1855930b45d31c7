"""Fresh, stale, missing: how far a pod's sample carries, and what stands in for a pod that says nothing.

Missing is neither idle nor full. For ups a silent pod counts as the median of its fresh peers (unseen demand
is assumed to be like the demand we see); for downs it counts as saturated, which is the guard `signals`.
"""

from collections.abc import Sequence
from enum import StrEnum

from headrace.autoscaler.decision import SignalHealth
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.signals import PodPhase, PodSample, Signals


class Freshness(StrEnum):
    """How old a sample is."""

    FRESH = "fresh"
    STALE = "stale"  # old, but younger than the burst memory: good for levels, not for taking away
    MISSING = "missing"


def freshness(pod: PodSample, now: float, limits: Limits) -> Freshness:
    """The state of one pod's sample at `now`."""
    if pod.sampled_at is None or pod.load is None:
        return Freshness.MISSING
    age_s = now - pod.sampled_at
    if age_s <= limits.fresh_s:
        return Freshness.FRESH
    return Freshness.STALE if age_s <= limits.stale_s else Freshness.MISSING


def health(signals: Signals, limits: Limits, now: float) -> SignalHealth:
    """Whether the serving pods' samples can carry a decision, and which endpoints are behind them."""
    serving = [pod for pod in signals.pods if pod.phase is PodPhase.SERVING]
    states = [freshness(pod, now, limits) for pod in serving]
    fresh, stale = states.count(Freshness.FRESH), states.count(Freshness.STALE)
    missing = len(states) - fresh - stale
    counts = f"{fresh} of {len(serving)} serving pods fresh, {stale} stale, {missing} missing"
    if not serving:
        return SignalHealth(True, "NoServingPods", "no pod serves yet, so nothing is expected to answer", 0, 0, 0)
    if missing == len(serving):
        return SignalHealth(False, "Missing", f"no serving pod was read: {counts}", fresh, stale, missing)
    if missing:
        return SignalHealth(
            False, "Missing", f"{counts}: nothing is taken away until all answer", fresh, stale, missing
        )
    if stale:
        return SignalHealth(
            False, "Stale", f"{counts}: nothing is taken away until all are fresh", fresh, stale, missing
        )
    if not _has_state(serving):
        message = f"{counts}; no /headrace/state (stock engine): arrivals are reckoned from /v1/loads sums"
        return SignalHealth(True, "NoEngineState", message, fresh, stale, missing)
    return SignalHealth(True, "Fresh", counts, fresh, stale, missing)


def _has_state(pods: Sequence[PodSample]) -> bool:
    return any(pod.state is not None for pod in pods)


def median(values: Sequence[float]) -> float:
    """The lower median; 0 for nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0
