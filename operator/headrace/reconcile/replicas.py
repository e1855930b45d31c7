"""Who decided `spec.replicas`: we, or somebody else whose word holds for a while.

The autoscaler's field manager applies `spec.replicas` together with an annotation of the same number. A write through
the /scale subresource (`kubectl scale`) may leave no trace in managedFields, but it leaves the annotation behind: when
the two differ, somebody else wrote. Everything is on the object itself, so a restart of the operator forgets nothing.
"""

from dataclasses import dataclass

from headrace.api.conditions import format_time
from headrace.reconcile.fields import Manifest, owned_fields
from headrace.reconcile.pods import parse_time

SCALE_MANAGER = "headrace-autoscaler"
WANTED = "headrace.dev/replicas"
FLOOR = "headrace.dev/replicas-floor"
FLOOR_UNTIL = "headrace.dev/replicas-floor-until"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The spec's limits of one role."""

    min: int
    max: int

    def clamp(self, replicas: int) -> int:
        """The nearest number within the bounds."""
        return max(self.min, min(self.max, replicas))


@dataclass(frozen=True, slots=True)
class Scale:
    """The replicas of one pool as the Deployment carries them."""

    replicas: int
    wanted: int | None  # what we last applied; None: never
    floor: int = 0
    floor_until: float = 0.0
    owned: bool = False  # whether our scale manager owns spec.replicas

    def active_floor(self, now: float) -> int:
        """The floor that holds at `now`; 0: none."""
        return self.floor if now < self.floor_until else 0

    def foreign(self) -> bool:
        """Whether somebody else wrote spec.replicas since our last apply."""
        return self.wanted is not None and self.replicas != self.wanted


def read_scale(deployment: Manifest) -> Scale:
    """The scale of a live Deployment."""
    notes = deployment["metadata"].get("annotations") or {}
    owned = owned_fields(deployment, SCALE_MANAGER) or {}
    return Scale(
        replicas=int(deployment["spec"].get("replicas", 1)),
        wanted=_count(notes.get(WANTED)),
        floor=_count(notes.get(FLOOR)) or 0,
        floor_until=parse_time(notes.get(FLOOR_UNTIL)) or 0.0,
        owned="f:replicas" in owned.get("f:spec", {}),
    )


def adopt(scale: Scale, bounds: Bounds, now: float, window_s: float) -> Scale:
    """Take somebody else's number as a floor for one scale-down window, within the bounds.

    Example: we wanted 2, somebody scaled to 9, max is 8: floor 8 until now + window_s.
    """
    if not scale.foreign():
        return scale
    floor = bounds.clamp(scale.replicas)
    return Scale(scale.replicas, scale.wanted, floor, float(int(now + window_s)), scale.owned)


def scale_manifest(deployment: Manifest, replicas: int, scale: Scale, now: float) -> Manifest | None:
    """The apply of the scale manager that makes the Deployment carry `replicas`, or None where it does already."""
    floor = scale.active_floor(now)
    before = read_scale(deployment)
    if before.owned and before.replicas == before.wanted == replicas and before.floor == floor:
        return None
    notes = {WANTED: str(replicas)}
    if floor:
        notes |= {FLOOR: str(floor), FLOOR_UNTIL: format_time(scale.floor_until)}
    meta = deployment["metadata"]
    return {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "annotations": notes},
        "spec": {"replicas": replicas},
    }


def release_patch(deployment: Manifest) -> Manifest | None:
    """The merge patch that ends our word on the replicas and leaves the number alone; None where it is done.

    Without the annotations, whatever number is found when Headrace takes over again is nobody's interference.
    """
    notes = deployment["metadata"].get("annotations") or {}
    ours = [name for name in (WANTED, FLOOR, FLOOR_UNTIL) if name in notes]
    return {"metadata": {"annotations": dict.fromkeys(ours)}} if ours else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
