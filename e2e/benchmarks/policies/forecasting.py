"""B7, B9, B10, B12: laws that size from offered traffic: Dynamo's SLA planner, HeteroScale, TokenScale, SageServe."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from e2e.benchmarks.policies.common import Facts, Window, ceil, mean, target, views
from e2e.benchmarks.policies.engine_aware import DynamoLoadSla
from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import Signals


@dataclass(frozen=True, slots=True)
class Traffic:
    """Offered traffic over one interval, from the engines' totals and finished requests."""

    requests_per_s: float
    prompt_tokens: float  # mean, uncached
    output_tokens: float  # mean


class TrafficMeter:
    """Reads arrivals and lengths as a metrics pipeline would: from what the engines counted lately."""

    def __init__(self) -> None:
        self._lengths = (1000.0, 200.0)  # a start value until the first request has finished

    def read(self, signals: Signals, span_s: float) -> Traffic:
        """Traffic of the last span_s seconds before each engine was read (at most its 120 s of arrival bins)."""
        states = [(pod.role, pod.state) for pod in signals.pods if pod.state is not None]
        read_at = max((state.at for _, state in states), default=signals.at)
        begun = min((state.started_at for _, state in states), default=signals.at - span_s)
        span_s = max(min(span_s, 120.0, read_at - begun), 1.0)
        bins = [
            b for role, state in states if role is not Role.DECODE for b in state.arrivals if b.at_s > state.at - span_s
        ]
        count = sum(b.count for b in bins)
        prompt = sum(b.prompt_tokens - b.cached_tokens for b in bins)
        finished = [f for role, state in states if role is not Role.PREFILL for f in state.finished]
        if finished:
            self._lengths = (mean(f.prompt_tokens for f in finished), mean(f.output_tokens for f in finished))
        return Traffic(count / span_s, prompt / count if count else self._lengths[0], self._lengths[1])


def dynamo_loads(facts: Facts, traffic: Traffic) -> dict[Role, float]:
    """Dynamo's closed form: prefill = rate * ISL / throughput; decode = rate * OSL * step(b) / b, b the best batch."""
    context = traffic.prompt_tokens + traffic.output_tokens / 2
    batch = facts.best_batch(context)
    decode = traffic.requests_per_s * traffic.output_tokens * facts.step_s(batch, batch * context) / batch
    prefill = traffic.requests_per_s * traffic.prompt_tokens / facts.prefill_tokens_per_s
    return {Role.PREFILL: prefill, Role.DECODE: decode, Role.WORKER: prefill + decode}


def dynamo_needs(facts: Facts, traffic: Traffic) -> dict[Role, int]:
    """The same in whole replicas."""
    return {role: ceil(load) for role, load in dynamo_loads(facts, traffic).items()}


class DynamoSla:
    """B7: the throughput planner, every 180 s from a forecast (the last value), at most 8 a step.

    `headroom` multiplies the forecast; upstream has none (1.0).
    """

    interval_s = 180.0

    def __init__(self, facts: Facts, headroom: float = 1.0) -> None:
        self.name, self.facts, self.headroom = "dynamo-sla", facts, headroom
        self._meter = TrafficMeter()

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:  # noqa: ARG002 - it keeps no time
        """Both roles from the same forecast."""
        needs = self.needs(signals)
        found = {}
        for view in views(signals):
            step = max(-8, min(8, needs[view.role] - view.n))
            found[view.role] = target(view, view.n + step, self.facts)
        return found

    def needs(self, signals: Signals) -> dict[Role, int]:
        """Replicas by role for the traffic of the last interval times the head-room."""
        seen = self._meter.read(signals, 180.0)
        scaled = Traffic(seen.requests_per_s * self.headroom, seen.prompt_tokens, seen.output_tokens)
        return dynamo_needs(self.facts, scaled)


class DynamoHybrid(DynamoSla):
    """B7 as a floor with B6' on top: the planner's best published family."""

    interval_s = 5.0

    def __init__(self, facts: Facts, headroom: float = 1.0) -> None:
        super().__init__(facts, headroom)
        self.name = "dynamo-hybrid"
        self._load = DynamoLoadSla(facts)
        self._floor: dict[Role, int] = {}
        self._floor_at = -1e18

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """The floor moves every 180 s, the load law every 5 s."""
        if now - self._floor_at >= 180.0:
            self._floor, self._floor_at = self.needs(signals), now
        found = {}
        for view in views(signals):
            step = self._load.step(view) if view.loads and not view.pending else 0
            found[view.role] = target(view, max(view.n + step, self._floor.get(view.role, 1)), self.facts)
        return found


class TokenScale:
    """B10: token arrival rate over token velocity; 10 % hysteresis down over 60 s (assumed, unpublished)."""

    interval_s = 5.0

    def __init__(self, facts: Facts, headroom: float = 1.0) -> None:
        self.name, self.facts, self.headroom = "tokenscale", facts, headroom
        self._meter = TrafficMeter()
        self._wanted: dict[Role, Window] = {}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Velocity of decode is completed tokens per second at the best batch."""
        traffic = self._meter.read(signals, 10.0)
        needs = dynamo_needs(
            self.facts, Traffic(traffic.requests_per_s * self.headroom, traffic.prompt_tokens, traffic.output_tokens)
        )
        found = {}
        for view in views(signals):
            window = self._wanted.setdefault(view.role, Window(60.0))
            window.add(now, needs[view.role])
            held = max(map(int, window.values()))
            wanted = held if held > view.n or held < 0.9 * view.n else view.n
            found[view.role] = target(view, wanted, self.facts)
        return found


class HeteroScale:
    """B9: decode tokens per second drive both pools, prefill by a fixed ratio; tolerance 10 %, down after 300 s.

    `share` is the target as a share of the profiled tokens per second at the objective.
    """

    interval_s = 60.0

    def __init__(self, facts: Facts, share: float = 0.8) -> None:
        self.name, self.facts, self.share = "heteroscale", facts, share
        self._meter = TrafficMeter()
        self._ratio: float | None = None
        self._down: dict[Role, Window] = {}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """One signal for both pools keeps their ratio."""
        traffic = self._meter.read(signals, 60.0)
        if self._ratio is None and traffic.requests_per_s > 0:
            loads = dynamo_loads(self.facts, traffic)
            self._ratio = loads[Role.PREFILL] / loads[Role.DECODE]
        context = traffic.prompt_tokens + traffic.output_tokens / 2
        batch = self.facts.best_batch(context)
        per_replica = batch / self.facts.step_s(batch, batch * context) * self.share
        decode = traffic.requests_per_s * traffic.output_tokens / per_replica
        worker = decode + traffic.requests_per_s * traffic.prompt_tokens / self.facts.prefill_tokens_per_s
        raw = {Role.DECODE: decode, Role.PREFILL: decode * (self._ratio or 1.0), Role.WORKER: worker}
        found = {}
        for view in views(signals):
            ratio = raw[view.role] / max(view.n, 1)
            wanted = view.n if 0.9 <= ratio <= 1.1 else max(1, ceil(raw[view.role]))
            window = self._down.setdefault(view.role, Window(300.0))
            window.add(now, wanted)
            found[view.role] = target(view, wanted if wanted >= view.n else max(map(int, window.values())), self.facts)
        return found


class SageServe:
    """B12: an hourly plan from the peak of the last hour, executed one replica at a time as use passes 50 % or 25 %."""

    interval_s = 60.0

    def __init__(self, facts: Facts, headroom: float = 1.0) -> None:
        self.name, self.facts, self.headroom = "sageserve", facts, headroom
        self._meter = TrafficMeter()
        self._history = Window(3600.0)
        self._plan: dict[Role, int] = {}
        self._planned_at = -1e18

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Beyond 90 % use one replica is added whatever the plan says."""
        traffic = self._meter.read(signals, 60.0)
        self._history.add(now, traffic.requests_per_s)
        if now - self._planned_at >= 3600.0:
            peak = max(self._history.values()) * self.headroom
            self._plan = dynamo_needs(self.facts, Traffic(peak, traffic.prompt_tokens, traffic.output_tokens))
            self._planned_at = now
        found = {}
        for view in views(signals):
            use = mean(view.kv_shares())
            if view.role is Role.PREFILL:
                use = (
                    traffic.requests_per_s
                    * traffic.prompt_tokens
                    / (max(view.ready, 1) * self.facts.prefill_tokens_per_s)
                )
            planned = self._plan.get(view.role, view.n)
            step = 1 if use > 0.9 or (use > 0.5 and view.n < planned) else -1 if use < 0.25 and view.n > planned else 0
            found[view.role] = target(view, view.n + step, self.facts)
        return found


FAMILY: Mapping[str, tuple[Callable[..., object], tuple[float, ...]]] = {
    "dynamo-sla": (DynamoSla, (1.0, 1.5, 2.0, 3.0, 5.0)),
    "dynamo-hybrid": (DynamoHybrid, (1.0, 1.5, 2.0, 3.0, 5.0)),
    "heteroscale": (HeteroScale, (0.3, 0.4, 0.5, 0.65, 0.8)),
    "tokenscale": (TokenScale, (1.0, 1.5, 2.0, 3.0, 5.0)),
    "sageserve": (SageServe, (1.0, 1.5, 2.0, 3.0, 5.0)),
}
