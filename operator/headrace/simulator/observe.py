"""Turns simulated engines into the very signals that real endpoints give, late and with gaps where asked for."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.autoscaler.signals import (
    EngineLoad,
    EngineState,
    GatewaySample,
    PodPhase,
    PodSample,
    PoolState,
    RunningStream,
    Signals,
)
from headrace.simulator.engine import INFINITY
from headrace.simulator.pool import Pool, Replica
from headrace.simulator.routing import Uniform

STREAMS_LIMIT = 512  # /headrace/state shows no more running streams than this

Sample = tuple[float, EngineLoad, EngineState]  # with the time of the read


@dataclass(frozen=True, slots=True)
class MetricFaults:
    """How much worse than perfect the readings are."""

    lag_s: float = 0.0  # age of a reading when the policy sees it
    loss: float = 0.0  # share of reads that fail, 0..1; the last good one stays


class Observer:
    """Reads every pod at each scrape and hands the newest readings that are old enough to the policy."""

    def __init__(self, service: str, epoch: int, faults: MetricFaults, rng: Uniform) -> None:
        self.service = service
        self.epoch = epoch
        self.faults = faults
        self.rng = rng
        self.seen: dict[str, Sample] = {}
        self.under_way: deque[tuple[float, dict[str, Sample]]] = deque()

    def scrape(self, pools: Iterable[Pool], now: float) -> None:
        """Read every pod that answers. The readings become visible `lag_s` later."""
        taken: dict[str, Sample] = {}
        for pool in pools:
            for replica in pool.replicas:
                if replica.phase is PodPhase.STARTING or replica.gone_at < INFINITY:
                    continue
                if self.faults.loss and self.rng.random() < self.faults.loss:
                    continue
                taken[replica.name] = self._read(replica, now)
        self.under_way.append((now, taken))

    def _read(self, replica: Replica, now: float) -> Sample:
        engine = replica.engine
        engine.sync(now)
        pairs, total = engine.streams(STREAMS_LIMIT)
        ledger = engine.ledger
        state = EngineState(
            at=self.epoch + now,
            started_at=self.epoch + replica.ready_at,
            queued_tokens=engine.queued_tokens(),
            arrivals=ledger.arrivals(now),
            running=tuple([RunningStream(isl, age) for isl, age in pairs]),
            running_total=total,
            finished=tuple(ledger.finished),
            arrivals_total=ledger.arrivals_total,
            finished_total=ledger.finished_total,
        )
        return self.epoch + now, engine.load(), state

    def signals(self, pools: Mapping[Role, Pool], held: int, inflight: int, now: float) -> Signals:
        """What the policy sees at `now`: pods and pools as the API server knows them, readings as old as they are."""
        while self.under_way and self.under_way[0][0] <= now - self.faults.lag_s + 1e-6:
            self.seen.update(self.under_way.popleft()[1])
        pods = [self._pod(pool.role, replica) for pool in pools.values() for replica in pool.replicas]
        alive = {pod.pod for pod in pods}
        self.seen = {name: sample for name, sample in self.seen.items() if name in alive}
        return Signals(
            service=self.service,
            at=self.epoch + now,
            pods=tuple(pods),
            # spec.replicas of a workload counts the pods that drain until they are gone.
            pools={role: PoolState(desired=len(pool.replicas)) for role, pool in pools.items()},
            gateway=GatewaySample(sampled_at=self.epoch + now, queued_requests=held, inflight_requests=inflight),
        )

    def _pod(self, role: Role, replica: Replica) -> PodSample:
        at, load, state = self.seen.get(replica.name, (None, None, None))
        ready = replica.ready_at < INFINITY
        return PodSample(
            pod=replica.name,
            role=role,
            phase=replica.phase,
            created_at=self.epoch + replica.created_at,
            ready_at=self.epoch + replica.ready_at if ready else None,
            sampled_at=at,
            revision="simulated",
            load=load,
            state=state,
        )
