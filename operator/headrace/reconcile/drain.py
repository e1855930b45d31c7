"""Taking replicas out without losing a request: two phases, whose state is on the pods alone.

    serving --drain--> draining (cost -1000) --idle--> leaving (cost -2000) --still idle--> replicas lowered, pod ends
       ^_________________________|____________________________|  reactivated while needed again

A Deployment can't be told which pod to end: its ReplicaSet picks by phase, readiness, then deletion cost. So replicas
are lowered only when that order names exactly the pods that may go, and in a pass that changes no pod, so that the
ReplicaSet controller has seen the costs. The gateway's letting go and the engine's idleness are read anew at every
pass, the second after the first: nothing has to be remembered across a restart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import EngineLoad, EngineState
from headrace.reconcile.pods import PodView
from headrace.reconcile.replicas import Bounds

DRAINING_COST = -1000  # below any cost that a user would set
LEAVING_COST = -2000  # below DRAINING_COST: of two draining pods the idle one goes
# Times the deadline that a drain may last even where nobody waits for its accelerator: a stream that never ends must
# not hold one for good.
MAX_EXTENSION = 3.0


@dataclass(frozen=True, slots=True)
class Witness:
    """What the gateways and the engine of a draining pod said in this pass, in this order."""

    released: bool  # no gateway has it on its list
    load: EngineLoad | None  # read after that; None: could not be read


@dataclass(frozen=True, slots=True)
class Pool:
    """The Deployment of one role."""

    replicas: int  # spec.replicas
    created: int  # status.replicas: pods that its ReplicaSets have, ending ones not counted
    settled: bool  # the controllers have seen the last change of the spec
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Loss:
    """A pod that had to end with work. `requests` None: its engine could not be asked."""

    pod: str
    requests: int | None
    drained_s: float

    def message(self) -> str:
        """One sentence for the Event and the status."""
        count = "an unknown number of" if self.requests is None else str(self.requests)
        return f"pod {self.pod} ends after draining for {self.drained_s:.0f} s with {count} requests unfinished"


@dataclass(frozen=True, slots=True)
class Step:
    """The writes of one pass, pods before replicas."""

    replicas: int
    drain: tuple[str, ...] = ()
    reactivate: tuple[str, ...] = ()
    costs: Mapping[str, int] = field(default_factory=dict)
    losses: tuple[Loss, ...] = ()
    hold: str = ""  # why replicas were not lowered though a pod could go


def idle(load: EngineLoad | None) -> bool:
    """Whether the engine has nothing at all to do. A missing sample is not idle."""
    return load is not None and work(load) == 0


def work(load: EngineLoad) -> int:
    """Requests that would be lost if the engine ended now.

    Queues that are folded into waiting_requests may count twice: the number is an upper bound, and 0 means 0.
    """
    return (
        load.running_requests
        + load.waiting_requests
        + load.prefill_bootstrap_requests
        + load.prefill_inflight_requests
        + load.decode_prealloc_requests
        + load.decode_transfer_requests
        + load.decode_retracted_requests
    )


def with_streams(load: EngineLoad | None, state: EngineState | None) -> EngineLoad | None:
    """The load, raised to what the engine's own front counts.

    The scheduler's snapshot may be a moment older than a request that the front has just accepted.
    """
    if load is None or state is None or work(load) > 0:
        return load
    return replace(load, running_requests=state.running_total, waiting_requests=1 if state.queued_tokens else 0)


def step(
    pool: Pool,
    pods: Sequence[PodView],
    target: RoleTarget | None,
    witnesses: Mapping[str, Witness],
    *,
    now: float,
    deadline_s: float,
    floor: int = 0,
    wanted_elsewhere: bool = False,
) -> Step:
    """What to write for one pool now.

    `target` None: nothing was decided; drains that have begun go on, and nothing else changes but for the minimum.
    `floor`: somebody's write to replicas that still holds. `wanted_elsewhere`: a pod waits for the accelerator that a
    draining one holds, so a deadline is not extended.
    """
    alive = [pod for pod in pods if not pod.terminating]
    draining = [pod for pod in alive if pod.draining]
    kept = pool.replicas - len(draining)  # pods that stay, whether created yet or not
    stay = _stay(pool.bounds, target, kept, floor)
    back = _taken_back(draining, target, stay - kept)
    gone = {pod.name for pod in back}
    draining = [pod for pod in draining if pod.name not in gone]
    kept += len(back)

    victims = _victims(alive, target, kept - stay)
    leaving, losses = _leaving(draining, witnesses, now, deadline_s, wanted_elsewhere)
    costs = {
        pod.name: cost
        for pod in draining
        if pod.deletion_cost != (cost := LEAVING_COST if pod.name in leaving else DRAINING_COST)
    }
    undated = tuple(pod.name for pod in draining if pod.draining_since is None)
    writes = Step(
        replicas=pool.replicas,
        drain=(*undated, *(pod.name for pod in victims)),
        reactivate=tuple(pod.name for pod in back),
        costs=costs,
        losses=losses,
    )
    if kept < stay:
        return _with_replicas(writes, stay + len(draining))
    if writes.drain or writes.reactivate or writes.costs:
        return writes
    return _lowered(writes, pool, alive, {pod.name for pod in draining if pod.name in leaving}, kept - stay)


def _stay(bounds: Bounds, target: RoleTarget | None, kept: int, floor: int) -> int:
    if target is None:
        return max(kept, bounds.min)
    return bounds.clamp(max(target.replicas, floor))


def _taken_back(draining: Sequence[PodView], target: RoleTarget | None, shortage: int) -> list[PodView]:
    """Draining pods that serve again: at once, where a new pod takes minutes. Those that the plan named come first."""
    named = set(target.reactivate) if target else set()
    usable = [pod for pod in draining if pod.ready]
    usable.sort(key=lambda pod: (pod.name not in named, -(pod.draining_since or 0.0), pod.name))
    return usable[: max(0, shortage)]


def _victims(alive: Sequence[PodView], target: RoleTarget | None, excess: int) -> list[PodView]:
    """The plan's victims that serve still, as many as may go: an old plan must not take more than today's excess."""
    if target is None or excess <= 0:
        return []
    by_name = {pod.name: pod for pod in alive if not pod.draining}
    return [by_name[name] for name in dict.fromkeys(target.victims) if name in by_name][:excess]


def _leaving(
    draining: Sequence[PodView], witnesses: Mapping[str, Witness], now: float, deadline_s: float, wanted: bool
) -> tuple[set[str], tuple[Loss, ...]]:
    """Draining pods that may end, and those among them whose time is up before their work is done."""
    leaving: set[str] = set()
    losses: list[Loss] = []
    for pod in draining:
        witness = witnesses.get(pod.name, Witness(released=False, load=None))
        if witness.released and (idle(witness.load) or pod.never_served or pod.engine_down):
            leaving.add(pod.name)
        elif _overdue(pod, witness, now, deadline_s, wanted):
            leaving.add(pod.name)
            if pod.deletion_cost != LEAVING_COST:  # told once, in the pass that gives the pod up
                requests = None if witness.load is None else work(witness.load)
                losses.append(Loss(pod.name, requests, now - (pod.draining_since or now)))
    return leaving, tuple(losses)


def _overdue(pod: PodView, witness: Witness, now: float, deadline_s: float, wanted: bool) -> bool:
    if pod.draining_since is None:
        return False
    extended = witness.load is not None and not wanted
    return now - pod.draining_since > deadline_s * (MAX_EXTENSION if extended else 1.0)


def _lowered(writes: Step, pool: Pool, alive: Sequence[PodView], leaving: set[str], excess: int) -> Step:
    """Lower replicas by the pods that may go, where the ReplicaSet would pick exactly those."""
    missing = max(0, min(excess, pool.replicas - pool.created))  # wanted, never created: nothing ends by their going
    if not leaving and not missing:
        return writes
    if not pool.settled:
        return _held(writes, "the Deployment's last change is not observed yet")
    if len(alive) != pool.created:
        return _held(writes, f"{len(alive)} pods are seen where the Deployment counts {pool.created}")
    if len({pod.template_hash for pod in alive}) > 1:
        return _held(writes, "a rollout is going on")
    others = [deletion_order(pod) for pod in alive if pod.name not in leaving]
    first = min(others, default=None)
    removable = [pod for pod in alive if pod.name in leaving and (first is None or deletion_order(pod) < first)]
    if leaving and not removable:
        return _held(writes, "a pod that stays is not Ready and would be ended first")
    return _with_replicas(writes, max(pool.bounds.min, pool.replicas - missing - len(removable)))


def deletion_order(pod: PodView) -> tuple[bool, int, bool, int]:
    """Where a ReplicaSet ranks a pod for ending (lowest first): its documented order, down to the deletion cost."""
    phase = {"Pending": 0, "Unknown": 1}.get(pod.phase, 2)
    return (pod.scheduled, phase, pod.ready, pod.deletion_cost)


def _with_replicas(writes: Step, replicas: int) -> Step:
    return Step(replicas, writes.drain, writes.reactivate, writes.costs, writes.losses)


def _held(writes: Step, why: str) -> Step:
    return Step(writes.replicas, writes.drain, writes.reactivate, writes.costs, writes.losses, hold=why)
