"""Routing skew: one replica has far more than the others while the role as a whole has room.

More replicas would not help the one that has too much, so this is told and never counted as a need.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from headrace.autoscaler.signals import EngineLoad, PodSample

SKEWED = 2.0  # times the median: what a policy by load or a good hash stays below
ROOMY = 0.6  # mean utilisation above which a full replica is a matter of size, not of routing
NOTICEABLE = 0.3  # utilisation of the busiest below which nobody waits, however uneven the rest is


@dataclass(frozen=True, slots=True)
class Skew:
    """The busiest replica of a role, and how many times the median replica's load it has."""

    pod: str
    role: str
    times: float  # infinite where the median replica has nothing

    def __str__(self) -> str:
        much = f"{self.times:.0f}x the load of" if self.times < 100.0 else "all the load, nothing is on"
        return f"routing skew: pod {self.pod} has {much} the median {self.role} pod"


def skew(pods: Sequence[PodSample]) -> Skew | None:
    """The skew among one role's serving pods with fresh loads, if it is worth telling.

    KV shares 0.8, 0.1, 0.16 and 0.1: the mean is 0.29, the busiest has 0.8 / 0.13 = 6 times the median.
    Two pods never differ by more than twice their median, so it takes three.
    """
    shares = [0.0 if pod.load is None else utilisation(pod.load) for pod in pods]
    most = max(shares, default=0.0)
    if most < NOTICEABLE or sum(shares) / len(shares) >= ROOMY:
        return None
    middle = median(shares)
    if most <= SKEWED * middle:
        return None
    busiest = pods[shares.index(most)]
    return Skew(busiest.pod, busiest.role.value, most / middle if middle > 0.0 else float("inf"))


def utilisation(load: EngineLoad) -> float:
    """KV tokens held and prompt tokens waiting, over the KV tokens that fit: 6,000 + 2,000 of 10,000 is 0.8."""
    return (load.used_tokens + (load.waiting_uncached_tokens or 0)) / max(load.max_total_tokens, 1)
