"""B5, B6, B8 and B11: laws on the engines' own gauges: AIBrix, Dynamo's load planner, llm-d's WVA, BlitzScale."""

from collections.abc import Callable, Mapping

from e2e.benchmarks.policies.common import Facts, RoleView, Window, ceil, mean, target, views
from e2e.benchmarks.policies.kubernetes import HpaBehaviour
from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import EngineLoad, Signals


class AibrixApa:
    """B5: mean over 180 s of a per-pod gauge against a target; 10 % tolerance, rate 2, down cooldown 300 s."""

    interval_s = 10.0

    def __init__(self, facts: Facts, kv_target: float = 0.70) -> None:
        self.name, self.facts, self.kv_target = "aibrix-apa", facts, kv_target
        self._gauge: dict[Role, Window] = {}
        self._recommended: dict[Role, Window] = {}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Prefill by queue length (10 a pod at the default; the knob moves both), decode and workers by KV use."""
        return {view.role: target(view, self._replicas(view, now), self.facts) for view in views(signals)}

    def _replicas(self, view: RoleView, now: float) -> int:
        by_queue = view.role is Role.PREFILL
        value = mean(load.waiting_requests for load in view.loads) if by_queue else mean(view.kv_shares())
        window = self._gauge.setdefault(view.role, Window(180.0))
        window.add(now, value)
        ratio = mean(window.values()) / (self.kv_target * 10.0 / 0.70 if by_queue else self.kv_target)
        n = max(view.n, 1)
        wanted = n
        if ratio > 1.1:
            wanted = min(ceil(n * ratio), 2 * n)
        elif ratio < 0.9:
            wanted = max(ceil(n * ratio), n // 2, 1)
        recent = self._recommended.setdefault(view.role, Window(300.0))
        recent.add(now, wanted)
        return max([wanted, *map(int, recent.values())]) if wanted < n else wanted


class DynamoLoad:
    """B6: Dynamo's load planner, easy mode `throughput` (its default): one replica a step, none while one starts."""

    interval_s = 5.0

    def __init__(self, facts: Facts, prefill_high: float = 1.0) -> None:
        self.name, self.facts, self.prefill_high = "dynamo-load", facts, prefill_high

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:  # noqa: ARG002 - it keeps no time
        """Any engine above the high mark adds one; all below the low mark removes one."""
        return {v.role: target(v, v.n + self._step(v), self.facts) for v in views(signals) if not v.pending and v.loads}

    def _step(self, view: RoleView) -> int:
        low, high = (0.1, self.prefill_high) if view.role is Role.PREFILL else (0.6, 1.0)
        pressure = [self._pressure(view.role, load) for load in view.loads]
        return 1 if max(pressure) >= high else -1 if max(pressure) < low else 0

    def _pressure(self, role: Role, load: EngineLoad) -> float:
        queued = load.waiting_uncached_tokens or 0
        if role is Role.PREFILL:
            return queued / self.facts.context_length
        return (load.used_tokens + queued) / max(load.max_total_tokens, 1)


class DynamoLoadSla:
    """B6': predicted TTFT and ITL per engine; up when all violate, down when N-1 would keep 80 % of the objective."""

    interval_s = 5.0

    def __init__(self, facts: Facts, sensitivity: float = 0.80) -> None:
        self.name, self.facts, self.sensitivity = "dynamo-load-sla", facts, sensitivity

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:  # noqa: ARG002 - it keeps no time
        """One replica a step, none while one starts."""
        return {v.role: target(v, v.n + self.step(v), self.facts) for v in views(signals) if not v.pending and v.loads}

    def step(self, view: RoleView) -> int:
        """+1, -1 or 0 for one role."""
        prefill = view.role is Role.PREFILL
        objective = self.facts.ttft_s if prefill else self.facts.tpot_s
        now_s = [self._predict(view.role, load, 1.0) for load in view.loads]
        if min(now_s) > objective:
            return 1
        if view.n <= 1:
            return 0
        factor = view.n / (view.n - 1)
        fewer_s = [self._predict(view.role, load, factor) for load in view.loads]
        fits = prefill or all(load.used_tokens * factor < load.max_total_tokens for load in view.loads)
        return -1 if fits and max(fewer_s) < self.sensitivity * objective else 0

    def _predict(self, role: Role, load: EngineLoad, factor: float) -> float:
        if role is Role.PREFILL:
            return factor * (load.waiting_uncached_tokens or 0) / self.facts.prefill_tokens_per_s
        return self.facts.step_s(load.running_requests * factor, load.used_tokens * factor)


class WvaSaturation:
    """B8: llm-d's saturation analyser, version 1: spare KV and spare queue over unsaturated replicas, HPA behind it."""

    interval_s = 30.0

    def __init__(self, facts: Facts, kv_threshold: float = 0.80) -> None:
        self.name, self.facts, self.kv_threshold = "wva-v1", facts, kv_threshold
        self._behaviour: dict[Role, HpaBehaviour] = {}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """One replica a step, none while one starts."""
        return {view.role: target(view, self._replicas(view, now), self.facts) for view in views(signals) if view.loads}

    def _replicas(self, view: RoleView, now: float) -> int:
        spare = [
            (self.kv_threshold - load.used_tokens / max(load.max_total_tokens, 1), 5.0 - load.waiting_requests)
            for load in view.loads
        ]
        free = [(kv, queue) for kv, queue in spare if kv > 0 and queue > 0]
        wanted = view.n
        if not free or mean(kv for kv, _ in free) < 0.10 or mean(queue for _, queue in free) < 3:
            wanted = view.n + (0 if view.pending else 1)
        elif len(free) >= 2:
            left = len(free) - 1
            kv_left = self.kv_threshold - sum(self.kv_threshold - kv for kv, _ in free) / left
            queue_left = 5.0 - sum(5.0 - queue for _, queue in free) / left
            wanted = view.n - 1 if kv_left >= 0.10 and queue_left >= 3 else view.n
        return self._behaviour.setdefault(view.role, HpaBehaviour()).apply(now, view.n, wanted)


class WvaTokens:
    """B8': version 2: tokens in use and queued against a learned capacity, up at 85 %, down at 70 %."""

    interval_s = 30.0

    def __init__(self, facts: Facts, up_share: float = 0.85) -> None:
        self.name, self.facts, self.up_share = "wva-v2", facts, up_share
        self._saturated: dict[Role, Window] = {}
        self._behaviour: dict[Role, HpaBehaviour] = {}

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:
        """Jumps to the need; pending replicas count as supply upwards only."""
        return {view.role: target(view, self._replicas(view, now), self.facts) for view in views(signals) if view.loads}

    def _replicas(self, view: RoleView, now: float) -> int:
        seen = self._saturated.setdefault(view.role, Window(1800.0))
        for load in view.loads:
            if load.waiting_requests >= 5:
                seen.add(now, load.used_tokens)
        by_memory = 0.8 * self.facts.kv_tokens
        capacity = max(1.0, min(by_memory, mean(seen.values()[-10:]) or by_memory))
        demand = sum(load.used_tokens + (load.waiting_uncached_tokens or 0) for load in view.loads)
        need = demand / self.up_share - view.n * capacity
        spare = view.ready * capacity - demand / (self.up_share - 0.15)
        wanted = view.n + ceil(need / capacity) if need > 0 else view.n - int(max(0.0, spare) // capacity)
        return self._behaviour.setdefault(view.role, HpaBehaviour()).apply(now, view.n, max(1, wanted))


class BlitzBand:
    """B11: BlitzScale's band: waiting prefill tokens and KV blocks between a low and a high share."""

    interval_s = 1.0

    def __init__(self, facts: Facts, prefill_high: float = 0.7) -> None:
        self.name, self.facts, self.prefill_high = "blitz-band", facts, prefill_high

    def decide(self, signals: Signals, now: float) -> Mapping[Role, RoleTarget]:  # noqa: ARG002 - it keeps no time
        """Below the band: to its midpoint. Above: one fewer."""
        return {view.role: target(view, self._replicas(view), self.facts) for view in views(signals) if view.loads}

    def _replicas(self, view: RoleView) -> int:
        low, high = (self.prefill_high * 5 / 7, self.prefill_high) if view.role is Role.PREFILL else (0.75, 0.95)
        if view.role is Role.PREFILL:
            work = sum(view.queued_tokens()) / (self.facts.prefill_tokens_per_s * self.facts.ttft_s)
        else:
            work = sum(view.kv_shares()) + view.waiting() / max(self.facts.max_running, 1)
        least, most = max(1, ceil(work / high)), max(1, ceil(work / low))
        if view.n < least:
            return ceil((least + most) / 2)
        return view.n - 1 if view.n > most else view.n


FAMILY: Mapping[str, tuple[Callable[..., object], tuple[float, ...]]] = {
    "aibrix-apa": (AibrixApa, (0.1, 0.2, 0.35, 0.5, 0.7)),
    "dynamo-load": (DynamoLoad, (0.1, 0.25, 0.5, 1.0, 2.0)),
    "dynamo-load-sla": (DynamoLoadSla, (0.4, 0.5, 0.6, 0.7, 0.8)),
    "wva-v1": (WvaSaturation, (0.5, 0.6, 0.7, 0.8, 0.9)),
    "wva-v2": (WvaTokens, (0.45, 0.55, 0.65, 0.75, 0.85)),
    "blitz-band": (BlitzBand, (0.05, 0.1, 0.2, 0.4, 0.7)),
}
