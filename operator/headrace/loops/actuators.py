"""Finds out what exists for a service and what else may size its pools: its own actuators and somebody else's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headrace.api.v1alpha1 import InferenceService
from headrace.clock import Clock
from headrace.kube.interface import Forbidden, Kube, Manifest, NotFound
from headrace.kube.kinds import CHILD_KINDS, HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT
from headrace.loops.keys import Key
from headrace.loops.observe import observe_children
from headrace.reconcile.actuators import (
    Actuators,
    find_failures,
    find_leaving,
    find_rivals,
    judge,
    with_room,
    without_conflicts,
)

# For so long one LIST serves every pass: a thousand services of a namespace would otherwise each list all its
# HorizontalPodAutoscalers. Somebody else's is noticed that much later, as their first write wakes us anyway.
SHARED_S = 5.0


@dataclass(frozen=True, slots=True)
class Landscape:
    """The actuators of a namespace, anybody's, and whether the API server serves KEDA's kind."""

    actuators: tuple[Manifest, ...]
    keda: bool
    at: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What is wanted and may be there, what is there, and what that means for scaling."""

    wanted: tuple[Manifest, ...]
    observed: tuple[Manifest, ...]
    actuators: Actuators


@dataclass(slots=True)
class Surveyor:
    """`prometheus`: the operator knows one, so that KEDA can be told of it."""

    kube: Kube
    clock: Clock
    prometheus: bool
    _known: dict[str, Landscape] = field(default_factory=dict)

    async def survey(self, key: Key, service: InferenceService, desired: Sequence[Manifest], now: float) -> Survey:
        """Read what exists. Raises KubeError."""
        around = await self._around(key.namespace)
        rivals = find_rivals(service, around.actuators)
        served = [m for m in desired if around.keda or m["kind"] != SCALED_OBJECT.kind]
        wanted = without_conflicts(service, served, rivals)
        kinds = (*CHILD_KINDS, SCALED_OBJECT) if around.keda else CHILD_KINDS
        observed = await observe_children(self.kube, key, wanted, kinds)
        leaving = find_leaving(service, wanted, observed)
        failures = find_failures(service, observed)
        obstacle = judge(service, rivals, failures, now, keda=around.keda, prometheus=self.prometheus)
        found = Actuators(rivals, leaving, obstacle, settling=bool(failures) and obstacle is None)
        return Survey(tuple(with_room(wanted, observed)), tuple(observed), found)

    async def _around(self, namespace: str) -> Landscape:
        """From memory for SHARED_S. KEDA is looked for each time anew: it may be installed later."""
        now = self.clock.monotonic()
        known = self._known.get(namespace)
        if known is None or now - known.at >= SHARED_S:
            found = await self.kube.list(HORIZONTAL_POD_AUTOSCALER, namespace)
            scaled = await self._scaled_objects(namespace)  # after what KEDA makes of them, so that no owner is missing
            known = self._known[namespace] = Landscape((*found, *(scaled or ())), scaled is not None, now)
        return known

    async def _scaled_objects(self, namespace: str) -> list[Manifest] | None:
        """None: KEDA is not installed, or the operator was not given the right to see (and so none to make any)."""
        try:
            return await self.kube.list(SCALED_OBJECT, namespace)
        except (NotFound, Forbidden):
            return None
