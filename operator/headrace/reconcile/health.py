"""The conditions: what the observed facts mean, in a reason for programs and a sentence for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.api.conditions import ConditionReason as Why
from headrace.api.conditions import ConditionType as Type
from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.autoscaler.decision import Decision, Reason
from headrace.reconcile.actuators import Obstacle
from headrace.reconcile.pods import PodView, Trouble

ROLE_CONDITIONS = {Role.PREFILL: Type.PREFILL_READY, Role.DECODE: Type.DECODE_READY, Role.WORKER: Type.WORKER_READY}


@dataclass(frozen=True, slots=True)
class Finding:
    """One condition as judged now. `status` None: nobody could look."""

    type: Type
    status: bool | None
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """The observed state of the pods of one role, gateways included."""

    name: str  # prefill, decode, worker, gateway
    least: int  # replicas below which the role counts as not ready
    desired: int  # replicas that shall stay
    pods: Sequence[PodView]
    revision: str = ""
    rolling: bool = False  # pods of an older template are still there
    problem: str = ""  # the workload's own words when it can't create pods (quota, a refused field)

    @property
    def alive(self) -> list[PodView]:
        """Pods that are not on their way out."""
        return [pod for pod in self.pods if not pod.terminating]

    @property
    def ready(self) -> int:
        """Pods that serve."""
        return sum(1 for pod in self.alive if pod.ready and not pod.draining)

    @property
    def starting(self) -> int:
        """Pods that shall serve and do not yet."""
        return sum(1 for pod in self.alive if not pod.ready and not pod.draining)

    @property
    def draining(self) -> int:
        """Pods taken out that finish what they have."""
        return sum(1 for pod in self.alive if pod.draining)

    def trouble(self) -> Trouble | None:
        """The first pod's trouble, by name."""
        kept = sorted((p for p in self.alive if not p.ready and p.trouble), key=lambda p: p.name)
        return kept[0].trouble if kept else None


def pool_ready(facts: PoolFacts, kind: Type) -> Finding:
    """Whether a role has the replicas that it must have."""
    counts = f"{facts.ready} of {facts.desired} {facts.name} replicas are ready"
    trouble = facts.trouble()
    if facts.ready >= facts.least:
        return Finding(kind, True, Why.AVAILABLE, f"{counts}; {trouble.message}" if trouble else counts)
    if trouble:
        return Finding(kind, False, trouble.reason, trouble.message)
    if facts.problem:
        return Finding(kind, False, Why.REPLICAS_MISSING, f"{counts}: {facts.problem}")
    if facts.starting:
        return Finding(kind, False, Why.STARTING, f"{counts}, {facts.starting} starting")
    return Finding(kind, False, Why.REPLICAS_MISSING, f"{counts}, none starting")


def gateway_ready(facts: PoolFacts) -> Finding:
    """Whether a gateway takes requests. It does only once it has found an engine of each role."""
    return pool_ready(facts, Type.GATEWAY_READY)


def ready(parts: Sequence[Finding], endpoint: str) -> Finding:
    """The summary: every part that a request passes is ready."""
    broken = [part for part in parts if not part.status]
    if not broken:
        return Finding(Type.READY, True, Why.AVAILABLE, f"serving at {endpoint}")
    # A part in trouble explains the service better than one that merely waits for it.
    first = min(broken, key=lambda part: part.reason in {Why.STARTING, Why.REPLICAS_MISSING})
    return Finding(Type.READY, False, first.reason, f"{first.type}: {first.message}")


def reconciling(pools: Sequence[PoolFacts], pending: str = "") -> Finding:
    """Whether the spec is still being carried out. Scaling is not that: it goes on all the time."""
    if pending:
        return Finding(Type.RECONCILING, True, Why.PROGRESSING, pending)
    rolling = [pool.name for pool in pools if pool.rolling]
    if rolling:
        return Finding(
            Type.RECONCILING, True, Why.ROLLING_OUT, f"{' and '.join(rolling)}: the last change is being rolled out"
        )
    short = [pool for pool in pools if pool.ready < pool.least]
    if short:
        return Finding(
            Type.RECONCILING, True, Why.STARTING, f"waiting for {' and '.join(pool.name for pool in short)} replicas"
        )
    return Finding(Type.RECONCILING, False, Why.SETTLED, "everything is as the spec asks for")


def scaling(
    mode: ScalingMode, paused: bool, decision: Decision | None, obstacle: Obstacle | None = None
) -> list[Finding]:
    """SignalsHealthy, ScalingActive and ScalingLimited."""
    return [_signals(mode, decision), _active(mode, paused, decision, obstacle), _limited(decision)]


def _signals(mode: ScalingMode, decision: Decision | None) -> Finding:
    if decision is None:
        why = "mode is Off" if mode is ScalingMode.OFF else "no decision was taken yet"
        return Finding(Type.SIGNALS_HEALTHY, None, "NotRead", f"signals are not read: {why}")
    health = decision.health
    return Finding(Type.SIGNALS_HEALTHY, health.healthy, health.reason, health.message)


def _active(mode: ScalingMode, paused: bool, decision: Decision | None, obstacle: Obstacle | None) -> Finding:
    inactive = _inactive(mode, paused, obstacle)
    if inactive is not None:
        return inactive
    kind = Type.SCALING_ACTIVE
    if decision is None:
        return Finding(kind, None, Why.STARTING, "no decision was taken yet")
    if mode.delegated:
        actuators = "HorizontalPodAutoscalers" if mode is ScalingMode.HPA else "ScaledObjects"
        return Finding(kind, True, Why.DELEGATED, f"Headrace decides, its {actuators} write the replicas")
    return Finding(kind, True, Why.ACTIVE, "Headrace sizes the pools")


def _inactive(mode: ScalingMode, paused: bool, obstacle: Obstacle | None) -> Finding | None:
    """What keeps decisions from being taken or carried out, the most particular first."""
    kind = Type.SCALING_ACTIVE
    if mode is ScalingMode.OFF:
        return Finding(kind, False, Why.SCALING_OFF, "spec.autoscaling.mode is Off: replicas stay as they are")
    if obstacle is not None:
        return Finding(kind, False, obstacle.reason, obstacle.message)
    if paused:
        return Finding(kind, False, Why.PAUSED, 'held by the annotation headrace.dev/paused: "true"')
    if mode is ScalingMode.ADVISORY:
        return Finding(kind, False, Why.ADVISORY, "spec.autoscaling.mode is Advisory: decisions are shown, not written")
    return None


def _limited(decision: Decision | None) -> Finding:
    limited = [r for r in decision.roles.values() if r.reason is Reason.LIMITED] if decision else []
    if limited:
        return Finding(Type.SCALING_LIMITED, True, Reason.LIMITED.value, "; ".join(r.message for r in limited))
    return Finding(Type.SCALING_LIMITED, False, "WithinBounds", "no bound or budget holds the pools back")
