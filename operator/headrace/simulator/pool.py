"""The replicas of one role: starting, serving, draining, gone; with what they cost in GPU time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import PodPhase
from headrace.simulator.engine import INFINITY, Engine

Delay = Callable[[], float]  # draws one delay in seconds


@dataclass(slots=True, eq=False)
class Replica:
    """One pod."""

    name: str
    created_at: float
    engine: Engine
    phase: PodPhase = PodPhase.STARTING
    ready_at: float = INFINITY
    gone_at: float = INFINITY


@dataclass(slots=True)
class Lifecycle:
    """How long replicas take to come and to go."""

    start_s: Delay
    stop_s: Delay = lambda: 0.0  # from idle to the GPU being free
    start_fails: Callable[[], bool] = lambda: False  # a failed start is tried again on the same GPU


@dataclass(slots=True)
class Pool:
    """Replicas of one role and the bounds the spec gives them."""

    role: Role
    minimum: int
    maximum: int
    gpus: int
    lifecycle: Lifecycle
    make: Callable[[str, Role], Engine]
    at: Callable[[float, Callable[[float], None]], None]
    became_ready: Callable[[float], None]
    replicas: list[Replica] = field(default_factory=list)
    serving: list[Engine] = field(default_factory=list)  # what the gateway sends to
    gone: list[Replica] = field(default_factory=list)  # waiting for their GPU time to be counted
    created: int = 0
    failed_starts: int = 0
    gpu_s: float = 0.0

    @property
    def desired(self) -> int:
        """Replicas that shall stay: serving and starting."""
        return sum(r.phase is not PodPhase.DRAINING for r in self.replicas)

    def start(self, now: float, *, ready: bool = False) -> None:
        """Create one replica; `ready` for those that exist when the simulation begins."""
        self.created += 1
        name = f"{self.role.value}-{self.created}"
        replica = Replica(name, now, self.make(name, self.role))
        self.replicas.append(replica)
        if ready:
            self._serve(replica, now)
        else:
            self._try_start(replica, now)

    def _try_start(self, replica: Replica, now: float) -> None:
        fails = self.lifecycle.start_fails()
        self.at(now + self.lifecycle.start_s(), lambda t: self._started(replica, t, fails=fails))

    def _started(self, replica: Replica, now: float, *, fails: bool) -> None:
        if replica.phase is not PodPhase.STARTING or replica.gone_at < INFINITY:
            return
        if fails:
            self.failed_starts += 1
            self._try_start(replica, now)
            return
        self._serve(replica, now)
        self.became_ready(now)

    def _serve(self, replica: Replica, now: float) -> None:
        replica.phase = PodPhase.SERVING
        replica.ready_at = min(replica.ready_at, now)
        self.serving.append(replica.engine)

    def apply(self, target: RoleTarget, now: float) -> int:
        """Move towards a target, clamped to the bounds. Returns the change in replicas that shall stay."""
        before = self.desired
        wanted = min(max(target.replicas, self.minimum), self.maximum)
        for name in target.reactivate:
            if self.desired < wanted:
                self._reactivate(name, now)
        while self.desired < wanted:
            self.start(now)
        for name in target.victims:
            if self.desired > wanted:
                self._retire(self._find(name), now)
        while self.desired > wanted:
            self._retire(self._cheapest(), now)
        return self.desired - before

    def _find(self, name: str) -> Replica | None:
        return next((r for r in self.replicas if r.name == name), None)

    def _reactivate(self, name: str, now: float) -> None:
        replica = self._find(name)
        if replica is not None and replica.phase is PodPhase.DRAINING and replica.gone_at == INFINITY:
            self._serve(replica, now)

    def _cheapest(self) -> Replica:
        """As a Deployment does: what has not started yet first, then the replica with the fewest requests."""
        stay = [r for r in self.replicas if r.phase is not PodPhase.DRAINING]
        return min(stay, key=lambda r: (r.phase is not PodPhase.STARTING, r.engine.inflight, -r.created_at))

    def _retire(self, replica: Replica | None, now: float) -> None:
        if replica is None or replica.phase is PodPhase.DRAINING:
            return
        if replica.phase is PodPhase.SERVING:
            self.serving.remove(replica.engine)
        replica.phase = PodPhase.DRAINING
        self.release(now)

    def release(self, now: float) -> None:
        """Let draining replicas go that have nothing left; called when a request leaves and on each retirement."""
        for replica in self.replicas:
            if replica.phase is PodPhase.DRAINING and replica.gone_at == INFINITY and replica.engine.idle():
                replica.gone_at = now + self.lifecycle.stop_s()
                self.gone.append(replica)
        if self.gone:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        for replica in [r for r in self.gone if r.gone_at <= now]:
            self.gone.remove(replica)
            self.replicas.remove(replica)
            self.gpu_s += (replica.gone_at - replica.created_at) * self.gpus

    def gpu_seconds(self, until: float) -> float:
        """GPU time held up to `until`, starting and draining replicas included."""
        self._sweep(until)
        return self.gpu_s + sum(max(min(until, r.gone_at) - r.created_at, 0.0) for r in self.replicas) * self.gpus
