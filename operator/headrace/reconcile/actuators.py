"""Who writes the replicas of a pool: exactly one of Headrace, the actuator that it made, and somebody else's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.api.conditions import ConditionReason
from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.names import pool_name
from headrace.reconcile.diff import Ref, controlled_by
from headrace.reconcile.fields import Manifest
from headrace.reconcile.pods import parse_time

HPA, SCALED_OBJECT, DEPLOYMENT = "HorizontalPodAutoscaler", "ScaledObject", "Deployment"
ACTUATORS = frozenset({HPA, SCALED_OBJECT})
# The conditions by which the two say that they can't scale.
_HEALTH = {HPA: ("AbleToScale", "ScalingActive"), SCALED_OBJECT: ("Ready",)}
# A new actuator looks for its number at once, and finds it after a scrape and a sync of its own: half a minute each.
SETTLE_S = 60.0
_UPPER = {HPA: "maxReplicas", SCALED_OBJECT: "maxReplicaCount"}

Rivals = Mapping[Role, tuple[Ref, ...]]


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What keeps decisions from being carried out: a reason of ScalingActive, and a sentence with the mend."""

    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An actuator of ours says that it can't scale."""

    ref: Ref
    reason: str
    since: float  # epoch seconds


@dataclass(frozen=True, slots=True)
class Actuators:
    """What a pass found out about the actuators of a service's pools."""

    rivals: Rivals = field(default_factory=dict)
    leaving: frozenset[Role] = frozenset()  # pools whose actuator of ours is no longer wanted and not gone yet
    obstacle: Obstacle | None = None
    settling: bool = False  # one of ours says that it can't scale, but not for long yet

    def held(self, role: Role) -> bool:
        """Whether something else may still write the replicas of the role."""
        return role in self.rivals or role in self.leaving


def is_actuator(manifest: Manifest) -> bool:
    """Whether the object writes replicas of another one."""
    return manifest["kind"] in ACTUATORS


def find_rivals(service: InferenceService, actuators: Sequence[Manifest]) -> Rivals:
    """Somebody else's actuators by the role whose Deployment they size.

    `actuators`: all of the namespace. A HorizontalPodAutoscaler that KEDA made for a ScaledObject of ours is ours.
    """
    ours = {service.uid} | {a["metadata"]["uid"] for a in actuators if controlled_by(a, service.uid)}
    pools = {pool_name(service, role): role for role in service.spec.roles}
    found: dict[Role, list[Ref]] = {}
    for actuator in actuators:
        role = pools.get(_target(actuator))
        if role is not None and not any(controlled_by(actuator, uid) for uid in ours):
            found.setdefault(role, []).append(Ref.of(actuator))
    return {role: tuple(sorted(refs)) for role, refs in found.items()}


def without_conflicts(service: InferenceService, desired: Iterable[Manifest], rivals: Rivals) -> list[Manifest]:
    """The wanted manifests less our own actuators of pools that somebody else's sizes: two would undo each other."""
    taken = {pool_name(service, role) for role in rivals}
    return [m for m in desired if not (is_actuator(m) and m["metadata"]["name"] in taken)]


def with_room(wanted: Iterable[Manifest], observed: Iterable[Manifest]) -> list[Manifest]:
    """The wanted manifests, each actuator's upper bound raised to what its pool still has.

    A bound below that would be carried out at once, on pods that nobody drained. Headrace's number respects the spec's
    bound and comes down first; then this one follows.
    """
    live = {
        obj["metadata"]["name"]: int(obj["spec"].get("replicas", 1)) for obj in observed if obj["kind"] == DEPLOYMENT
    }
    return [_raised(m, live.get(m["metadata"]["name"], 0)) if is_actuator(m) else m for m in wanted]


def _raised(actuator: Manifest, replicas: int) -> Manifest:
    bound = _UPPER[actuator["kind"]]
    return {**actuator, "spec": {**actuator["spec"], bound: max(actuator["spec"][bound], replicas)}}


def find_leaving(
    service: InferenceService, wanted: Iterable[Manifest], observed: Iterable[Manifest]
) -> frozenset[Role]:
    """Pools that an actuator of ours still sizes although it is not wanted any more."""
    refs = {Ref.of(manifest) for manifest in wanted}
    names = {
        obj["metadata"]["name"]
        for obj in observed
        if is_actuator(obj) and Ref.of(obj) not in refs and controlled_by(obj, service.uid)
    }
    return frozenset(role for role in service.spec.roles if pool_name(service, role) in names)


def find_failures(service: InferenceService, observed: Iterable[Manifest]) -> list[Failure]:
    """What actuators of ours say against themselves. One that has said nothing yet says nothing against itself."""
    found = []
    for obj in observed:
        if not is_actuator(obj) or not controlled_by(obj, service.uid):
            continue
        for condition in (obj.get("status") or {}).get("conditions") or ():
            if condition["type"] in _HEALTH[obj["kind"]] and condition["status"] == "False":
                since = parse_time(condition.get("lastTransitionTime")) or 0.0
                found.append(Failure(Ref.of(obj), condition.get("reason") or condition["type"], since))
    return found


def judge(
    service: InferenceService, rivals: Rivals, failures: Sequence[Failure], now: float, *, keda: bool, prometheus: bool
) -> Obstacle | None:
    """What keeps the mode from working. `keda`: KEDA's kind is served. `prometheus`: its address is known."""
    mode = service.spec.autoscaling.mode
    if mode.acts and rivals:
        return _conflict(service, rivals)
    if mode is ScalingMode.KEDA and not keda:
        return Obstacle(
            ConditionReason.ACTUATOR_MISSING,
            "the CustomResourceDefinition scaledobjects.keda.sh is not installed: install KEDA, or set "
            "spec.autoscaling.mode to HPA or Internal",
        )
    if mode is ScalingMode.KEDA and not prometheus:
        return Obstacle(
            ConditionReason.ACTUATOR_MISSING,
            "KEDA reads the decided replicas from Prometheus, whose address the operator was not told: set "
            "HEADRACE_PROMETHEUS_URL, or set spec.autoscaling.mode to HPA or Internal",
        )
    old = [failure for failure in failures if now - failure.since >= SETTLE_S]
    return _failing(old[0]) if old and mode.delegated else None


def _conflict(service: InferenceService, rivals: Rivals) -> Obstacle:
    parts = [
        f"{' and '.join(map(str, refs))} {'sizes' if len(refs) == 1 else 'size'} Deployment/{pool_name(service, role)}"
        for role, refs in rivals.items()
    ]
    return Obstacle(
        ConditionReason.ACTUATOR_CONFLICT,
        f"{'; '.join(parts)}: Headrace leaves its replicas alone until that is gone; delete it, or set "
        "spec.autoscaling.mode to Off",
    )


def _failing(failure: Failure) -> Obstacle:
    plural = "hpa" if failure.ref.kind == HPA else "scaledobject"
    return Obstacle(
        ConditionReason.ACTUATOR_FAILING,
        f"{failure.ref} can't scale ({failure.reason}): kubectl describe {plural} {failure.ref.name}",
    )


def _target(actuator: Manifest) -> str:
    """The Deployment that an actuator sizes; empty for another kind. KEDA's default is a Deployment."""
    ref = (actuator.get("spec") or {}).get("scaleTargetRef") or {}
    is_deployment = ref.get("kind", DEPLOYMENT) == DEPLOYMENT
    return str(ref.get("name", "")) if is_deployment and ref.get("apiVersion", "apps/v1").startswith("apps/") else ""
