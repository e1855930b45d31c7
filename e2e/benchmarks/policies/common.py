"""What every baseline shares: how it sees a role, how it names its victims, and a window over the past.

A baseline sees the same `Signals` as Headrace, through the same lag and loss, and its scale-downs drain in the same
way, so that only the control law differs. Each constant in these files is the upstream project's default unless it says
otherwise.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import EngineLoad, PodPhase, PodSample, Signals


@dataclass(frozen=True, slots=True)
class Facts:
    """What an operator of the baseline would have profiled beforehand, for one fleet profile."""

    ttft_s: float  # objective
    tpot_s: float
    prefill_tokens_per_s: float  # one prefill (or aggregated) replica, saturated
    step_base_s: float  # decode step: base + per_request * batch + per_kv_token * KV tokens
    step_per_request_s: float
    step_per_kv_token_s: float
    kv_tokens: int  # KV tokens that fit into one replica
    max_running: int
    context_length: int
    min_replicas: Mapping[Role, int]
    max_replicas: Mapping[Role, int]
    reserved_tokens: int = 0  # KV tokens that a decode engine keeps free for each request it holds

    def step_s(self, batch: float, kv_tokens: float) -> float:
        """Seconds of one decode step."""
        return self.step_base_s + self.step_per_request_s * batch + self.step_per_kv_token_s * kv_tokens

    def best_batch(self, context: float) -> int:
        """The largest batch whose step meets the TPOT objective and whose KV fits, by the linear step form.

        base 6.4 ms, 11.4 us a request, 42.7 ns a KV token, context 1100, objective 50 ms: 43.6 / 0.0584 = 746.
        """
        per_request = self.step_per_request_s + self.step_per_kv_token_s * context
        by_time = (self.tpot_s - self.step_base_s) / per_request
        return max(1, int(min(by_time, self.kv_tokens / max(context + self.reserved_tokens, 1.0), self.max_running)))


@dataclass(frozen=True, slots=True)
class RoleView:
    """One role at one tick: replicas in the spec, Ready ones, and the loads that were read."""

    role: Role
    n: int
    ready: int
    pods: tuple[PodSample, ...]  # serving and starting
    loads: tuple[EngineLoad, ...]  # of serving pods

    @property
    def pending(self) -> int:
        """Replicas asked for and not Ready."""
        return max(0, self.n - self.ready)

    def waiting(self) -> int:
        """Requests waiting over the role."""
        return sum(load.waiting_requests for load in self.loads)

    def concurrency(self) -> int:
        """Requests running and waiting over the role."""
        return sum(load.running_requests + load.waiting_requests for load in self.loads)

    def kv_shares(self) -> list[float]:
        """KV tokens held over KV tokens that fit, by replica."""
        return [load.used_tokens / max(load.max_total_tokens, 1) for load in self.loads]

    def queued_tokens(self) -> list[int]:
        """Prompt tokens queued, by replica."""
        return [load.waiting_uncached_tokens or 0 for load in self.loads]


def views(signals: Signals) -> list[RoleView]:
    """One view for each role that has a pool."""
    found = []
    for role, pool in signals.pools.items():
        mine = [p for p in signals.pods if p.role == role]
        pods = tuple(p for p in mine if p.phase is not PodPhase.DRAINING)
        draining = len(mine) - len(pods)
        serving = [p for p in pods if p.phase is PodPhase.SERVING]
        loads = tuple(p.load for p in serving if p.load is not None)
        found.append(RoleView(role, pool.desired - draining, len(serving), pods, loads))
    return found


def target(view: RoleView, replicas: int, facts: Facts) -> RoleTarget:
    """Clamped to the bounds. Where it shrinks, the youngest pods go first: what a ReplicaSet does."""
    replicas = min(max(replicas, facts.min_replicas[view.role]), facts.max_replicas[view.role])
    surplus = max(0, view.n - replicas)
    youngest = sorted(view.pods, key=lambda pod: (pod.phase is PodPhase.SERVING, -pod.created_at))
    return RoleTarget(view.role, replicas, victims=tuple(pod.pod for pod in youngest[:surplus]))


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean, 0 for none."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def ceil(value: float) -> int:
    """Upwards, forgiving what floating point adds: 3.0000000001 replicas are 3."""
    return math.ceil(value - 1e-9)


class Window:
    """Samples of the last `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._samples: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> None:
        """Remember a value and forget what is too old."""
        self._samples.append((now, value))
        while self._samples and self._samples[0][0] <= now - self.span_s:
            self._samples.popleft()

    def values(self) -> list[float]:
        """What is remembered, oldest first."""
        return [value for _, value in self._samples]

    def since(self, start: float) -> list[float]:
        """Values at or after start."""
        return [value for at, value in self._samples if at >= start]


class BusyShare:
    """Mean share of the last `span_s` seconds that the GPUs of a role spent in prefill steps, from the running sums."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._sums: dict[str, deque[tuple[float, float]]] = {}

    def read(self, view: RoleView, now: float) -> float:
        """0..1; a replica that was read once only does not count yet."""
        shares = []
        for pod in view.pods:
            if pod.load is None or pod.load.prefill_busy_s_total is None or pod.sampled_at is None:
                continue
            sums = self._sums.setdefault(pod.pod, deque())
            if not sums or pod.sampled_at > sums[-1][0]:
                sums.append((pod.sampled_at, pod.load.prefill_busy_s_total))
            while len(sums) > 2 and sums[1][0] < now - self.span_s:
                sums.popleft()
            if len(sums) > 1:
                shares.append((sums[-1][1] - sums[0][1]) / (sums[-1][0] - sums[0][0]))
        return min(mean(shares), 1.0)
