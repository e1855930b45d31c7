"""Fresh, stale, missing: how far a pod's sample carries, and what stands in for a pod that says nothing.

Missing is neither idle nor full. For ups a silent pod counts as the median of its fresh peers (unseen demand
is assumed to be like the demand we see); for downs it counts as saturated, which is the guard `signals`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.api.roles import Role
from headrace.autoscaler.decision import SignalHealth
from headrace.autoscaler.limits import Limits
from headrace.autoscaler.signals import PodPhase, PodSample, Signals
from headrace.autoscaler.skew import skew

NAMED = 3  # pods that a message names


class Freshness(StrEnum):
    """How old a sample is."""

    FRESH = "fresh"
    STALE = "stale"  # old, but younger than the burst memory: good for levels, not for taking away
    MISSING = "missing"


def freshness(pod: PodSample, now: float, limits: Limits) -> Freshness:
    """The state of one pod's sample at `now`. A read of figures that are old themselves is at best stale."""
    if pod.sampled_at is None or pod.load is None:
        return Freshness.MISSING
    age_s = now - pod.sampled_at
    if age_s > limits.stale_s:
        return Freshness.MISSING
    return Freshness.FRESH if max(age_s, pod.load.lag_s) <= limits.fresh_s else Freshness.STALE


def is_new(pod: PodSample, now: float, limits: Limits) -> bool:
    """Ready for so short that no sample can be expected yet: it took nothing from its peers, and is not missing."""
    return pod.sampled_at is None and pod.ready_at is not None and now - pod.ready_at < limits.fresh_s


def health(signals: Signals, limits: Limits, now: float) -> SignalHealth:
    """Whether the serving pods' samples can carry a decision: the reason that matters most, and all there is to say."""
    by_state = _by_state(signals, limits, now)
    fresh, stale, missing = (by_state[state] for state in Freshness)
    total = len(fresh) + len(stale) + len(missing)
    if not total:
        said = "no pod has served for long enough to be read, so nothing is expected to answer"
        return SignalHealth(True, "NoEngines", said, 0, 0, 0)
    findings = [*_silent(stale, missing, now, limits), *_noteworthy(fresh, stale)]
    reason, healthy = (findings[0].reason, findings[0].healthy) if findings else ("Fresh", True)
    counts = f"{len(fresh)} of {total} serving pods fresh, {len(stale)} stale, {len(missing)} missing"
    message = "; ".join((counts, *(finding.message for finding in findings)))
    return SignalHealth(healthy, reason, message, len(fresh), len(stale), len(missing))


@dataclass(frozen=True, slots=True)
class _Finding:
    reason: str
    message: str
    healthy: bool = True


def _silent(stale: Sequence[PodSample], missing: Sequence[PodSample], now: float, limits: Limits) -> Iterator[_Finding]:
    """What keeps anything from being taken away, the graver first."""
    if missing:
        said = f"{_names(missing)} can't be read: nothing is taken away until all answer"
        yield _Finding("PodsSilent", said, healthy=False)
    hung = [pod for pod in stale if pod.load is not None and now - (pod.sampled_at or 0.0) <= limits.fresh_s]
    late = [pod for pod in stale if pod not in hung]
    if late:
        said = (
            f"{_names(late)} last answered {_oldest_s(late, now):.0f} s ago: nothing is taken away until all are fresh"
        )
        yield _Finding("Stale", said, healthy=False)
    if hung:
        said = (
            f"the scheduler of {_names(hung)} stands still: it answers with figures of over {limits.fresh_s:.0f} s ago"
        )
        yield _Finding("Stale", said, healthy=False)


def _noteworthy(fresh: Sequence[PodSample], stale: Sequence[PodSample]) -> Iterator[_Finding]:
    """What a decision can be made with all the same."""
    loads = [(pod, pod.load) for pod in (*fresh, *stale) if pod.load is not None]
    unknown = [pod for pod, load in loads if load.read_as]
    if unknown:
        told = ", ".join(sorted({load.engine_version or "no release" for _, load in loads if load.read_as}))
        likes = ", ".join(sorted({load.read_as for _, load in loads if load.read_as}))
        yield _Finding(
            "EngineVersionUnknown", f"SGLang {told} of {_names(unknown)} is not a known release: read like {likes}"
        )
    for role in Role:
        found = skew([pod for pod in fresh if pod.role is role])
        if found is not None:
            yield _Finding("RoutingSkew", str(found))
    if loads and not any(pod.state is not None for pod, _ in loads):
        said = "no /headrace/state (stock engine): arrivals are reckoned from /v1/loads sums"
        yield _Finding("NoEngineState", said)


def _by_state(signals: Signals, limits: Limits, now: float) -> dict[Freshness, list[PodSample]]:
    found: dict[Freshness, list[PodSample]] = {state: [] for state in Freshness}
    for pod in signals.pods:
        if pod.phase is PodPhase.SERVING and not is_new(pod, now, limits):
            found[freshness(pod, now, limits)].append(pod)
    return found


def _names(pods: Sequence[PodSample]) -> str:
    """At most three names: a condition is read in a line of a terminal."""
    names = sorted(pod.pod for pod in pods)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"pod {', '.join(names[:NAMED])}{more}"


def _oldest_s(pods: Sequence[PodSample], now: float) -> float:
    return max(now - (pod.sampled_at or now) for pod in pods)


def median(values: Sequence[float]) -> float:
    """The lower median; 0 for nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else 0.0
