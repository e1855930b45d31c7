"""A fleet as fluid: enough of an engine pool for a controller test, one second a step, deterministic.

Prefill works off new tokens at the true token price; decode holds streams of a fixed length at the true step time. It
emits the same Signals as real endpoints, applies targets, and starts pods after a fixed delay.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    FinishedRequest,
    PodPhase,
    PodSample,
    PoolState,
    RunningStream,
    Signals,
)
from headrace_engine_config.length_class import length_class


@dataclass
class Pod:
    name: str
    role: Role
    created_at: float
    ready_at: float
    draining: bool = False
    queue_tokens: float = 0.0
    waiting: float = 0.0
    uncached_total: float = 0.0
    busy_s: float = 0.0
    running: float = 0.0
    kv_tokens: float = 0.0
    moments: list[float] = field(default_factory=lambda: [0.0] * 6)
    arrivals: list[ArrivalBin] = field(default_factory=list)
    arrived: int = 0
    finished: float = 0.0


class FluidFleet:
    def __init__(
        self,
        truth: CapacityModel,
        start: Mapping[Role, int],
        *,
        rate: Callable[[float], float],
        prompt: int = 1024,
        output: int = 256,
        startup_s: float = 60.0,
        now: float = 1_000_000.0,
        engine_state: bool = True,
    ) -> None:
        self.truth, self.rate, self.prompt, self.output = truth, rate, prompt, output
        self.startup_s, self.now, self.begin, self.engine_state = startup_s, now, now, engine_state
        self.pods: list[Pod] = []
        self.made = 0
        self.carry = 0.0
        self.replica_s = 0.0
        for role, count in start.items():
            for _ in range(count):
                self._make(role, ready_at=now - 300.0, created_at=now - 300.0 - startup_s)

    def _make(self, role: Role, *, ready_at: float, created_at: float) -> None:
        self.made += 1
        self.pods.append(Pod(f"{role}-{self.made:04d}", role, created_at, ready_at))

    def of(self, role: Role, *, serving_only: bool = False) -> list[Pod]:
        return [
            p for p in self.pods if p.role is role and not p.draining and (not serving_only or p.ready_at <= self.now)
        ]

    def count(self, role: Role) -> int:
        return len(self.of(role))

    def queue_s(self) -> float:
        """Seconds of prefill work queued per serving replica."""
        pods = [p for role in (Role.PREFILL, Role.WORKER) for p in self.of(role, serving_only=True)]
        return sum(p.queue_tokens for p in pods) * self.truth.token_price_s(self.prompt / 2) / max(len(pods), 1)

    def tpot_s(self) -> float:
        pods = [p for role in (Role.DECODE, Role.WORKER) for p in self.of(role, serving_only=True)]
        return max((self.truth.steps.decode_s(p.running, p.kv_tokens) for p in pods), default=0.0)

    def step(self) -> None:
        """One second."""
        self.now += 1.0
        self.carry += self.rate(self.now - self.begin)
        count = int(self.carry)
        self.carry -= count
        entrances = [p for role in (Role.PREFILL, Role.WORKER) for p in self.of(role, serving_only=True)]
        done = 0.0
        for index, pod in enumerate(entrances):
            share = count // len(entrances) + (index < count % len(entrances))
            if share:
                tokens = share * self.prompt
                pod.queue_tokens += tokens
                pod.arrivals.append(ArrivalBin(int(self.now) - 1, length_class(self.prompt), share, tokens, 0))
                pod.arrived += share
        for pod in [p for p in self.pods if p.role in (Role.PREFILL, Role.WORKER) and p.ready_at <= self.now]:
            done += self._prefill(pod)
            pod.arrivals = [a for a in pod.arrivals if a.at_s > self.now - 120]
        exits = [p for role in (Role.DECODE, Role.WORKER) for p in self.of(role, serving_only=True)]
        for pod in exits:
            pod.running += done / self.prompt / len(exits)
        for pod in [p for p in self.pods if p.role in (Role.DECODE, Role.WORKER) and p.ready_at <= self.now]:
            self._decode(pod)
        self.pods = [p for p in self.pods if not (p.draining and p.running < 0.5 and p.queue_tokens < 1)]
        self.replica_s += len(self.pods)

    def _prefill(self, pod: Pod) -> float:
        price_s = self.truth.token_price_s(self.prompt / 2)
        done = min(pod.queue_tokens, 1.0 / price_s)
        pod.queue_tokens -= done
        pod.uncached_total += done
        pod.busy_s += done * price_s
        return done

    def _decode(self, pod: Pod) -> None:
        pod.kv_tokens = pod.running * (self.prompt + self.output / 2)
        if pod.running < 0.5:
            pod.running = 0.0
            return
        step_s = self.truth.steps.decode_s(pod.running, pod.kv_tokens)
        steps = 1.0 / step_s
        batch = max(pod.running, 1.0)
        grown = (steps, steps * batch, steps * step_s * 1e6, steps * batch**2, steps * batch * step_s * 1e6)
        for index, value in enumerate((*grown, steps * batch)):
            pod.moments[index] += value
        ended = pod.running / (self.output * step_s)
        pod.finished += ended
        pod.running = max(pod.running - ended, 0.0)

    def signals(self, *, hide: frozenset[str] = frozenset()) -> Signals:
        samples = tuple(self._sample(pod, pod.name in hide) for pod in self.pods)
        pools = {role: PoolState(sum(p.role is role for p in self.pods)) for role in {p.role for p in self.pods}}
        return Signals("default/chat", self.now, samples, pools)

    def _sample(self, pod: Pod, hidden: bool) -> PodSample:
        ready = pod.ready_at <= self.now
        phase = PodPhase.DRAINING if pod.draining else PodPhase.SERVING if ready else PodPhase.STARTING
        sample = PodSample(pod.name, pod.role, phase, pod.created_at, pod.ready_at if ready else None)
        if hidden or not ready:
            return sample
        load = EngineLoad(
            running_requests=round(pod.running),
            waiting_requests=round(pod.queue_tokens / self.prompt),
            used_tokens=round(pod.kv_tokens),
            max_total_tokens=round(self.truth.kv_capacity_tokens),
            max_running_requests=round(self.truth.max_running),
            waiting_uncached_tokens=round(pod.queue_tokens),
            prefill_uncached_tokens_total=round(pod.uncached_total),
            prefill_busy_s_total=pod.busy_s,
            decode_moments=tuple(pod.moments),
        )
        return PodSample(
            pod.name, pod.role, phase, pod.created_at, pod.ready_at, self.now, "r1", load,
            self._state(pod) if self.engine_state else None,
        )  # fmt: skip

    def _state(self, pod: Pod) -> EngineState:
        streams = min(round(pod.running), 32)
        kind = length_class(self.prompt)
        return EngineState(
            at=self.now,
            started_at=pod.created_at,
            queued_tokens=round(pod.queue_tokens),
            arrivals=tuple(pod.arrivals),
            running=tuple(RunningStream(self.prompt, self.output * i // max(streams, 1)) for i in range(streams)),
            running_total=round(pod.running),
            finished=tuple(FinishedRequest(kind, self.prompt, self.output) for _ in range(min(int(pod.finished), 64))),
            arrivals_total=pod.arrived,
            finished_total=int(pod.finished),
        )

    def apply(self, targets: Mapping[Role, RoleTarget]) -> None:
        for role, target in targets.items():
            for pod in self.pods:
                if pod.name in target.victims:
                    pod.draining = True
                if pod.name in target.reactivate:
                    pod.draining = False
            for _ in range(target.replicas - self.count(role)):
                self._make(role, ready_at=self.now + self.startup_s, created_at=self.now)
            self.pods = [p for p in self.pods if not (p.draining and p.ready_at > self.now)]
