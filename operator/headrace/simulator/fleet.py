"""The simulated service: arrivals, gateway, engines, KV transfer, replicas and the policy that sizes them."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from headrace.api.roles import AGGREGATED_ROLES, DISAGGREGATED_ROLES, Role
from headrace.desired.gateway import PREFILL_SPILL_ABSOLUTE, PREFILL_SPILL_RELATIVE
from headrace.simulator.decode_engine import DecodeEngine
from headrace.simulator.engine import Engine, EngineShape
from headrace.simulator.observe import MetricFaults, Observer
from headrace.simulator.policy import Policy
from headrace.simulator.pool import Lifecycle, Pool
from headrace.simulator.prefill_engine import PrefillEngine
from headrace.simulator.request import Arrival, Live
from headrace.simulator.results import MissBudget, Progress, Records, RunResult, Series
from headrace.simulator.routing import Policy as Routing
from headrace.simulator.routing import Router, Spill, Uniform
from headrace.simulator.times import EngineTimes
from headrace.simulator.unified_engine import UnifiedEngine

DRAIN_LIMIT_S = 600.0  # a run goes on for so long after its horizon, so that the last requests can finish
EPOCH = 1_700_000_000  # simulated time 0 in epoch seconds: policies get plausible clocks

_ENGINES: Mapping[Role, type[Engine]] = {
    Role.PREFILL: PrefillEngine,
    Role.DECODE: DecodeEngine,
    Role.WORKER: UnifiedEngine,
}
# As the operator sets the gateway up: prompts follow their prefix until a few too many wait there, streams go where
# fewer are (decode keeps no prefixes).
_ROUTING: Mapping[Role, Routing] = {
    Role.PREFILL: Routing.CACHE_AWARE,
    Role.DECODE: Routing.POWER_OF_TWO,
    Role.WORKER: Routing.CACHE_AWARE,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """Replicas of one role: what the spec allows and how many there are at the start."""

    minimum: int
    maximum: int
    initial: int


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """Everything about a simulated service but its load and its policy."""

    times: EngineTimes
    shape: EngineShape
    bounds: Mapping[Role, Bounds]
    lifecycle: Lifecycle
    routing: Mapping[Role, Routing] = field(default_factory=dict)
    faults: MetricFaults = field(default_factory=MetricFaults)
    service: str = "simulated/service"

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of the topology. Raises ValueError when the bounds name no whole topology."""
        for roles in (DISAGGREGATED_ROLES, AGGREGATED_ROLES):
            if set(self.bounds) == set(roles):
                return roles
        raise ValueError(f"bounds: {sorted(self.bounds)} is neither prefill and decode nor worker")


def _router(role: Role, spec: FleetSpec, rng: Uniform) -> Router:
    spill = Spill(PREFILL_SPILL_ABSOLUTE, PREFILL_SPILL_RELATIVE) if role is Role.PREFILL else Spill()
    return Router(spec.routing.get(role, _ROUTING[role]), rng, spill)


class Fleet:
    """One run. Events are (time, serial, call); a call gets its time. Nothing here reads a clock but `clock`."""

    def __init__(
        self,
        spec: FleetSpec,
        policy: Policy,
        rng: Uniform,
        horizon_s: float,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.spec = spec
        self.policy = policy
        self.horizon_s = horizon_s
        self.clock = clock or (lambda: 0.0)
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.serial = 0
        self.observer = Observer(spec.service, EPOCH, spec.faults, rng)
        self.records = Records()
        self.budget: MissBudget | None = None
        self.series = Series()
        self.pools = {role: self._pool(role) for role in spec.roles}
        self.routers = {role: _router(role, spec, rng) for role in spec.roles}
        self.held: deque[Live] = deque()  # requests that the gateway holds while no engine serves
        self.live = self.arrived = self.rejected = self.retractions = 0
        self.actions = self.reversals = self.ticks = 0
        self.direction: dict[Role, int] = {}
        self.plan_s = 0.0
        self.gpu_s: dict[str, float] = {}
        for role, bounds in spec.bounds.items():
            for _ in range(bounds.initial):
                self.pools[role].start(0.0, ready=True)

    def _pool(self, role: Role) -> Pool:
        bounds, spec = self.spec.bounds[role], self.spec
        return Pool(
            role=role, minimum=bounds.minimum, maximum=bounds.maximum, gpus=spec.shape.gpus, lifecycle=spec.lifecycle,
            make=self._make, at=self.at, became_ready=self._release_held,
        )  # fmt: skip

    def _make(self, name: str, role: Role) -> Engine:
        return _ENGINES[role](name, self.spec.times, self.spec.shape, self, EPOCH)

    def at(self, time: float, call: Callable[[float], None]) -> None:
        """Call `call(time)` when the simulation gets there."""
        self.serial += 1
        heapq.heappush(self.events, (time, self.serial, call))

    def run(
        self, arrivals: Iterable[Arrival], progress: Progress | None = None, budget: MissBudget | None = None
    ) -> RunResult:
        """Simulate all arrivals before the horizon, then until all have finished or the drain limit is reached."""
        self.budget = budget
        events = self.events
        pop = heapq.heappop
        self._schedule_ticks()
        self.at(self.horizon_s, self._close_books)
        for arrival in arrivals:
            t = arrival.t
            if t >= self.horizon_s:
                break
            while events and events[0][0] <= t:
                time, _, call = pop(events)
                call(time)
            self._arrive(arrival)
            if not self.arrived & 1023:
                if budget is not None and budget.spent:
                    return self._result(gave_up=True)
                if progress is not None:
                    progress(t)
        end = self.horizon_s + DRAIN_LIMIT_S
        while events and events[0][0] <= end and (self.live or events[0][0] <= self.horizon_s):
            time, _, call = pop(events)
            call(time)
        if progress is not None:
            progress(self.horizon_s)
        return self._result()

    def _arrive(self, arrival: Arrival) -> None:
        self.arrived += 1
        live = Live(self.arrived, arrival)
        if live.isl + live.osl > self.spec.shape.kv_capacity_tokens:
            self.rejected += 1
            return
        self.live += 1
        if self.held or not all(pool.serving for pool in self.pools.values()):
            self.held.append(live)
        else:
            self._dispatch(live, arrival.t)

    def _release_held(self, now: float) -> None:
        while self.held and all(pool.serving for pool in self.pools.values()):
            self._dispatch(self.held.popleft(), now)

    def _dispatch(self, live: Live, now: float) -> None:
        pools, routers = self.pools, self.routers
        worker = pools.get(Role.WORKER)
        if worker is not None:
            server = routers[Role.WORKER].pick(worker.serving, live)
        else:
            server = routers[Role.DECODE].pick(pools[Role.DECODE].serving, live)
            upstream = routers[Role.PREFILL].pick(pools[Role.PREFILL].serving, live)
            assert isinstance(upstream, PrefillEngine)  # noqa: S101 - the pool of prefill has no other
            upstream.inflight += 1
            live.upstream = upstream
            upstream.announce(live, now)
        server.inflight += 1
        live.server = server
        server.accept(live, now)

    def reserved(self, live: Live, now: float) -> None:
        """The decode side has set KV aside: the prefill side may begin."""
        assert isinstance(live.upstream, PrefillEngine)  # noqa: S101 - only a disaggregated fleet has decode engines
        live.upstream.accept(live, now)

    def prefilled(self, live: Live, delivered_at: float) -> None:
        """Hand the request over to its decode engine when its KV is there."""
        upstream = live.upstream
        assert isinstance(upstream, PrefillEngine)  # noqa: S101 - see above
        self.at(delivered_at, lambda t: self._delivered(live, upstream, t))

    def _delivered(self, live: Live, upstream: PrefillEngine, now: float) -> None:
        upstream.exported(live)
        self._left(upstream, now)
        assert isinstance(live.server, DecodeEngine)  # noqa: S101 - see above
        live.server.deliver(live, now)

    def finished(self, live: Live, now: float) -> None:
        """Record a finished request and let its engine go if it was the last of a draining one."""
        self.live -= 1
        self.retractions += live.retractions
        self.records.add(live, now)
        if self.budget is not None:
            self.budget.spend(live, now)
        assert isinstance(live.server, Engine)  # noqa: S101 - set at dispatch
        self._left(live.server, now)

    def _left(self, engine: Engine, now: float) -> None:
        engine.inflight -= 1
        if not engine.inflight:
            self.pools[engine.role].release(now)

    def _schedule_ticks(self) -> None:
        lag = self.spec.faults.lag_s
        first = self.policy.interval_s
        self.at(max(first - lag, 0.0), self._scrape)
        self.at(first, self._tick)

    def _scrape(self, now: float) -> None:
        self.observer.scrape(self.pools.values(), now)
        self.at(now + self.policy.interval_s, self._scrape)

    def _tick(self, now: float) -> None:
        for pool in self.pools.values():
            pool.release(now)
        signals = self.observer.signals(self.pools, len(self.held), self.live, now)
        before = self.clock()
        targets = self.policy.decide(signals, EPOCH + now)
        self.plan_s += self.clock() - before
        self.ticks += 1
        for role, target in targets.items():
            self._changed(role, self.pools[role].apply(target, now))
        self._row(now)
        self.at(now + self.policy.interval_s, self._tick)

    def _changed(self, role: Role, change: int) -> None:
        if not change:
            return
        self.actions += 1
        direction = 1 if change > 0 else -1
        if self.direction.get(role, direction) != direction:
            self.reversals += 1
        self.direction[role] = direction

    def _row(self, now: float) -> None:
        row = {"t_s": now, "arrived": float(self.arrived), "live": float(self.live), "held": float(len(self.held))}
        for role, pool in self.pools.items():
            for engine in pool.serving:
                engine.sync(now)
            loads = [engine.load() for engine in pool.serving]
            row[f"{role}_serving"] = len(pool.serving)
            row[f"{role}_desired"] = pool.desired
            row[f"{role}_total"] = len(pool.replicas)
            row[f"{role}_queued_tokens"] = sum(engine.queued_tokens() for engine in pool.serving)
            row[f"{role}_running"] = sum(load.running_requests for load in loads)
            held = [load.used_tokens / load.max_total_tokens for load in loads]
            row[f"{role}_kv_share"] = sum(held) / len(held) if held else 0.0
        self.series.row(row)

    def _close_books(self, now: float) -> None:
        self.gpu_s = {role.value: pool.gpu_seconds(now) for role, pool in self.pools.items()}

    def _result(self, *, gave_up: bool = False) -> RunResult:
        if not self.gpu_s:
            self._close_books(self.horizon_s)
        return RunResult(
            policy=self.policy.name,
            horizon_s=self.horizon_s,
            arrived=self.arrived,
            unfinished=self.live,
            rejected=self.rejected,
            retractions=self.retractions,
            gpu_s=self.gpu_s,
            actions=self.actions,
            reversals=self.reversals,
            failed_starts=sum(pool.failed_starts for pool in self.pools.values()),
            ticks=self.ticks,
            plan_s=self.plan_s,
            records=self.records,
            series=self.series.columns,
            gave_up=gave_up,
        )
