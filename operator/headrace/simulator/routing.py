"""How a gateway picks the engine for a request: the policies of the SGLang gateway that matter here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from headrace.simulator.engine import Engine
from headrace.simulator.request import Live

# The gateway's default for cache_aware: follow the cache when it holds more than this share of the prompt ...
CACHE_THRESHOLD = 0.3
# ... unless that engine's load is too far above the mean: by Spill.absolute requests, or by two standard deviations of
# a Poisson load where that is less, but by no less than four unless `absolute` says so (smg 1.13).
SWING, SWING_LEAST = 2.0, 4.0


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


@dataclass(frozen=True, slots=True)
class Spill:
    """When cache_aware leaves the engine with the prefix: its load is above the mean by both. smg's own defaults."""

    absolute: float = 64.0  # requests
    relative: float = 1.5  # times the mean

    def crowded(self, load: float, mean: float) -> bool:
        """Mean 9, load 16: 7 above, more than min(64, max(4, 2 x 3)) = 6, and above 1.5 x 9 = 13.5: crowded."""
        margin = min(self.absolute, max(SWING_LEAST, SWING * math.sqrt(mean)))
        return load > mean + margin and load > self.relative * mean


class Router:
    """Picks among the engines that serve. Load is what the gateway itself knows: requests in flight at each."""

    __slots__ = ("policy", "rng", "spill", "turn")

    def __init__(self, policy: Policy, rng: Uniform, spill: Spill) -> None:
        self.policy = policy
        self.rng = rng
        self.spill = spill
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
        least = min(engines, key=_inflight)
        shares = [engine.cached_share(live.hash_ids, live.isl) for engine in engines]
        best = max(shares)
        if best <= CACHE_THRESHOLD:
            return least
        found = engines[shares.index(best)]
        mean = sum(engine.inflight for engine in engines) / len(engines)
        return least if self.spill.crowded(found.inflight, mean) else found


def _inflight(engine: Engine) -> int:
    return engine.inflight
