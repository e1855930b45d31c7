"""How a gateway picks the engine for a request: the policies of the SGLang gateway that matter here."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from headrace.simulator.engine import Engine
from headrace.simulator.request import Live

# The gateway's defaults for cache_aware: follow the cache when it holds more than this share of the prompt ...
CACHE_THRESHOLD = 0.3
# ... unless the most loaded worker is ahead of the least loaded by this many requests and by this factor.
BALANCE_ABSOLUTE = 64
BALANCE_RELATIVE = 1.5


class Uniform(Protocol):
    """The part of numpy's or Python's random generator that routing needs."""

    def random(self) -> float:
        """A number in [0, 1)."""
        ...


class Policy(StrEnum):
    """Names as the gateway spells them."""

    ROUND_ROBIN = "round_robin"
    LEAST_LOAD = "least_load"
    POWER_OF_TWO = "power_of_two"
    CACHE_AWARE = "cache_aware"


class Router:
    """Picks among the engines that serve. Load is what the gateway itself knows: requests in flight at each."""

    __slots__ = ("policy", "rng", "turn")

    def __init__(self, policy: Policy, rng: Uniform) -> None:
        self.policy = policy
        self.rng = rng
        self.turn = 0

    def pick(self, engines: Sequence[Engine], live: Live) -> Engine:
        """One of `engines`, which must not be empty."""
        if len(engines) == 1:
            return engines[0]
        if self.policy is Policy.POWER_OF_TWO:
            return self._power_of_two(engines)
        if self.policy is Policy.ROUND_ROBIN:
            self.turn += 1
            return engines[self.turn % len(engines)]
        if self.policy is Policy.CACHE_AWARE and live.hash_ids is not None:
            return self._cache_aware(engines, live)
        return min(engines, key=_inflight)

    def _power_of_two(self, engines: Sequence[Engine]) -> Engine:
        n = len(engines)
        first = int(self.rng.random() * n)
        second = (first + 1 + int(self.rng.random() * (n - 1))) % n
        a, b = engines[first], engines[second]
        return a if a.inflight <= b.inflight else b

    def _cache_aware(self, engines: Sequence[Engine], live: Live) -> Engine:
        loads = [engine.inflight for engine in engines]
        low, high = min(loads), max(loads)
        if high - low > BALANCE_ABSOLUTE and high > BALANCE_RELATIVE * low:
            return engines[loads.index(low)]
        shares = [engine.cached_share(live.hash_ids, live.isl) for engine in engines]
        best = max(shares)
        return engines[shares.index(best)] if best > CACHE_THRESHOLD else engines[loads.index(low)]


def _inflight(engine: Engine) -> int:
    return engine.inflight
