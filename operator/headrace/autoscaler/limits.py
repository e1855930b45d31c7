"""What a decision must respect: the objective, bounds, budget, and the timings of the control loop."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.api.roles import Role

LEAST_PART = 0.1  # of the misses, for the cheaper role: a tail of less is beyond what its model can tell
UNBOUNDED_STARTS = 1000  # more than any pool has
LEAST_WINDOW_S = 600.0  # lulls of five minutes between bursts are common: at 240 s a pool turned ten times an hour


@dataclass(frozen=True, slots=True)
class Objective:
    """Share of requests (`percentile`, 0..100) that shall meet both the TTFT and the TPOT objective."""

    ttft_s: float = 2.0
    tpot_s: float = 0.05
    percentile: float = 95.0
    ttft_per_1k_prompt_s: float = 0.0  # the TTFT objective is the larger of ttft_s and this x prompt tokens / 1000

    @property
    def miss_share(self) -> float:
        """Share of requests that may miss: 0.05 for the 95th percentile."""
        return min(max(1.0 - self.percentile / 100.0, 0.001), 0.5)

    def ttft_for(self, prompt_tokens: float) -> float:
        """The TTFT objective of a prompt. 2 s, 0.5 s per 1k: 8,000 tokens have 4 s."""
        return max(self.ttft_s, self.ttft_per_1k_prompt_s * prompt_tokens / 1000.0)

    def is_late(self, ttft_s: float, prompt_tokens: float) -> bool:
        """Whether a first token after `ttft_s` missed the prompt's objective."""
        return ttft_s > self.ttft_s and ttft_s > self.ttft_for(prompt_tokens)


@dataclass(frozen=True, slots=True)
class MissShares:
    """Shares of the requests that may miss for lack of prefill (by TTFT) and of decode (by TPOT), 0..1."""

    prefill: float
    decode: float


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """Bounds and cost of one role's replicas."""

    min: int = 1
    max: int = 1
    gpus: float = 1.0  # accelerators that one replica holds
    cost_per_hour: float = 1.0  # of one replica, any currency: only ratios between roles matter


@dataclass(frozen=True, slots=True)
class Limits:
    """The spec's and the operator's limits for one service."""

    objective: Objective
    roles: Mapping[Role, RoleLimits]
    gpu_budget: float | None = None  # accelerators for the whole service, draining ones included
    pd_ratio_min: float | None = None  # least prefill replicas per decode replica
    pd_ratio_max: float | None = None
    headroom: float = 1.0  # multiplies every need: the one knob between attainment and cost
    tick_s: float = 5.0
    scale_down_window_s: float | None = None  # None: max(600 s, twice the learned start-up time)
    restart_hold_s: float = 300.0  # after the controller's start nothing is taken away for so long
    max_starting: int = UNBOUNDED_STARTS  # engines of a role that may start at once
    starts_shared: bool = False  # max_starting holds for all roles together: a bound over the whole cluster
    fresh_s: float = 30.0  # two of Prometheus' usual 15 s scrapes: one lost scrape does not make a pod stale
    stale_s: float = 60.0  # older than this is missing: a minute holds several bursts
    startup_prior_s: float = 120.0  # start-up time until three starts were seen
    late_last: bool = True  # engines take requests that are late already after all others (engine.queueOrder)
    paused: bool = False
    advisory: bool = False  # nobody carries decisions out: what was advised is not on its way

    def miss_shares(self, replicas: Mapping[Role, int]) -> MissShares:
        """The shares that the roles may miss by: the misses of both add up.

        Misses fall about exponentially with the relative spare of a pool, so the cheapest way to the sum is to let each
        miss in proportion to what it costs. 5 %, 12 prefill and 3 decode at one price: 4 % and 1 %. An aggregated pool
        misses TTFT and TPOT alike: half of the sum for each.
        """
        share = self.objective.miss_share
        if Role.WORKER in self.roles:
            return MissShares(share / 2.0, share / 2.0)
        costs = {role: limits.cost_per_hour * max(replicas.get(role, 1), 1) for role, limits in self.roles.items()}
        part = costs[Role.PREFILL] / sum(costs.values())
        prefill = share * min(max(part, LEAST_PART), 1.0 - LEAST_PART)
        return MissShares(prefill, share - prefill)

    def window_s(self, startup_s: float) -> float:
        """How long a need must stay away before a replica goes: start-up 150 s, 600 s; 400 s, 800 s.

        Idling a replica for about its start-up time costs at most twice the cheapest choice (ski rental).
        """
        return (
            self.scale_down_window_s if self.scale_down_window_s is not None else max(LEAST_WINDOW_S, 2.0 * startup_s)
        )

    def lookback_s(self, startup_s: float) -> int:
        """How far back bursts are remembered: 2.5 windows within 60..300 s, 300 s at the default window."""
        return int(min(max(2.5 * self.window_s(startup_s), 60.0), 300.0))
