"""What to write so that the children become what the spec asks for: the difference of two sets of objects."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.reconcile.fields import Manifest, drift, owned_fields
from headrace.reconcile.replicas import SCALE_MANAGER

STRUCTURE_MANAGER = "headrace-operator"


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """One object of the service's namespace."""

    api_version: str
    kind: str
    name: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Ref":
        """The reference to a manifest or a live object."""
        return cls(manifest["apiVersion"], manifest["kind"], manifest["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Apply:
    """A manifest to apply, and why: "created", or the field that drifted."""

    manifest: Manifest
    cause: str
    created: bool


@dataclass(frozen=True, slots=True)
class Prune:
    """A child of ours that the spec no longer asks for. `uid` keeps a namesake made meanwhile from being hit."""

    ref: Ref
    uid: str


@dataclass(frozen=True, slots=True)
class Collision:
    """An object of somebody else that has the name of a child. It is never overwritten."""

    ref: Ref
    controller: str  # "Kind/name" of the owner that controls it, or "" when nobody does

    def message(self) -> str:
        """One sentence with the mend."""
        whose = f"belongs to {self.controller}" if self.controller else "was not made for this InferenceService"
        return f"{self.ref} exists already and {whose}; rename the InferenceService or delete that object"


@dataclass(frozen=True, slots=True)
class Actions:
    """All writes of one pass, in their order."""

    apply: tuple[Apply, ...] = ()
    prune: tuple[Prune, ...] = ()
    collisions: tuple[Collision, ...] = ()


def diff(
    desired: Iterable[Manifest],
    observed: Iterable[Manifest],
    owner_uid: str,
    initial_replicas: Mapping[str, int] | None = None,
    deleting: bool = False,
) -> Actions:
    """Compare the wanted manifests with the live objects of the service.

    `observed`: every live object that carries the service's label, and every one that has the name of a wanted child.
    `initial_replicas`: for each autoscaled Deployment the count to be born with; its `spec.replicas` is the structure's
    only until the autoscaler's manager owns it too, and is left alone from then on.
    """
    if deleting:  # the garbage collector ends the children; whatever we create now would outlive the service
        return Actions()
    scaled = initial_replicas or {}
    live = {Ref.of(obj): obj for obj in observed}
    wanted = {Ref.of(manifest): manifest for manifest in desired}
    applies: list[Apply] = []
    collisions: list[Collision] = []
    for ref, manifest in wanted.items():
        current = live.get(ref)
        autoscaled = ref.kind == "Deployment" and ref.name in scaled
        if current is None:
            born = with_replicas(manifest, scaled[ref.name]) if autoscaled else manifest
            applies.append(Apply(born, "created", created=True))
        elif not controlled_by(current, owner_uid):
            collisions.append(Collision(ref, _controller(current)))
        else:
            claimed = _structure(manifest, current) if autoscaled else manifest
            if cause := drift(claimed, current, STRUCTURE_MANAGER):
                applies.append(Apply(claimed, cause, created=False))
    prunes = tuple(
        Prune(ref, obj["metadata"]["uid"])
        for ref, obj in sorted(live.items())
        if ref not in wanted and controlled_by(obj, owner_uid) and not obj["metadata"].get("deletionTimestamp")
    )
    return Actions(tuple(applies), prunes, tuple(collisions))


def with_replicas(manifest: Manifest, replicas: int) -> Manifest:
    """The Deployment manifest with a number of replicas."""
    return {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}


def _structure(manifest: Manifest, current: Manifest) -> Manifest:
    """What the structure's manager claims of an autoscaled Deployment that exists.

    It lets go of the replicas that it set at creation once the scale manager owns them too: a field that loses its last
    owner falls back to the API server's default, 1.
    """
    if _owns_replicas(current, STRUCTURE_MANAGER) and not _owns_replicas(current, SCALE_MANAGER):
        return with_replicas(manifest, current["spec"]["replicas"])
    return manifest


def _owns_replicas(deployment: Manifest, manager: str) -> bool:
    return "f:replicas" in (owned_fields(deployment, manager) or {}).get("f:spec", {})


def controlled_by(obj: Manifest, uid: str) -> bool:
    """Whether the object names the owner with this uid."""
    return any(ref.get("uid") == uid for ref in obj["metadata"].get("ownerReferences") or ())


def _controller(obj: Manifest) -> str:
    owners = obj["metadata"].get("ownerReferences") or ()
    first = next((ref for ref in owners if ref.get("controller")), next(iter(owners), None))
    return f"{first['kind']}/{first['name']}" if first else ""
