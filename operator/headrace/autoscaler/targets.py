"""From a number to pods: victims, pods taken back, and the words for it."""

from headrace.autoscaler.choose import BUDGET
from headrace.autoscaler.decision import Need, Reason, RoleTarget, Veto
from headrace.autoscaler.guards import Case
from headrace.autoscaler.observe import tokens_left
from headrace.autoscaler.signals import PodSample

LIMITING = {"Bounds", BUDGET, "MaxStarting", "Surge"}


def pick(case: Case, replicas: int) -> RoleTarget:
    """The target with the pods that go (least left to do first) or come back (most left to do first)."""
    pool = case.pool
    surplus = pool.current - replicas  # not the pods that exist: a rollout's surge pods are not ours to end
    if surplus > 0:
        return RoleTarget(pool.role, replicas, victims=_victims(case, surplus))
    back = sorted(pool.draining, key=lambda pod: (-_left(pod), pod.pod))[: max(-surplus, 0)]
    return RoleTarget(pool.role, replicas, reactivate=tuple(pod.pod for pod in back))


def _victims(case: Case, count: int) -> tuple[str, ...]:
    """Those chosen before, then pods that never served (newest first), then the ones with the fewest KV tokens live."""
    pool, chosen = case.pool, set(case.memory.victims)

    def order(pod: PodSample) -> tuple[bool, bool, float, float, str]:
        is_serving = pod.ready_at is not None
        return pod.pod not in chosen, is_serving, tokens_left(pod.load) if is_serving else 0.0, -pod.created_at, pod.pod

    return tuple(pod.pod for pod in sorted((*pool.starting, *pool.serving), key=order)[:count])


def _left(pod: PodSample) -> float:
    return float(pod.load.used_tokens) if pod.load else 0.0


def reason_of(case: Case, target: RoleTarget, vetoes: tuple[Veto, ...]) -> Reason:  # noqa: PLR0911 - a table
    """The reason code: what happened, and if nothing did, why not."""
    names = {veto.guard for veto in vetoes}
    if "Paused" in names:
        return Reason.PAUSED
    if not case.health.healthy and case.health.fresh + case.health.stale == 0 and target.replicas == case.current:
        return Reason.NO_SIGNALS
    if target.replicas < case.current:
        return Reason.SCALE_DOWN
    if names & LIMITING and case.need > target.replicas:
        return Reason.LIMITED
    if target.reactivate:
        return Reason.REACTIVATE
    if target.replicas > case.current:
        return Reason.SCALE_UP
    return Reason.HELD if vetoes else Reason.STEADY


def sentence(case: Case, target: RoleTarget, binding: Need, vetoes: tuple[Veto, ...]) -> str:
    """One sentence for a person: from, to, the binding constraint with its numbers, and what held it."""
    change = f"{case.current} -> {target.replicas}" if target.replicas != case.current else f"stays at {case.current}"
    text = f"{target.role}: {change}; {binding.constraint} asks for {binding.replicas:.2f} ({binding.detail})"
    return f"{text}; {vetoes[-1].guard}: {vetoes[-1].message}" if vetoes else text
