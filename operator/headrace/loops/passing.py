"""What one reconcile pass gathers on its way, and what of it the status is made from."""

from dataclasses import dataclass, field, replace

from headrace.api.roles import Role
from headrace.api.status import InferenceServiceStatus
from headrace.api.v1alpha1 import InferenceService
from headrace.kube.interface import Manifest
from headrace.loops.keys import ROLE_LABEL, Key
from headrace.reconcile.actuators import Actuators
from headrace.reconcile.diff import Ref, controlled_by
from headrace.reconcile.health import PoolFacts
from headrace.reconcile.limits import bounds_of
from headrace.reconcile.pods import PodView
from headrace.reconcile.rollout import creation_problem, revision_of, rolling
from headrace.reconcile.status import Stall
from headrace.reconcile.transitions import News

GATEWAY = "gateway"


@dataclass(slots=True)
class Pass:
    """What one pass gathers on its way."""

    key: Key
    manifest: Manifest
    service: InferenceService
    before: InferenceServiceStatus
    now: float
    children: dict[Ref, Manifest] = field(default_factory=dict)
    pods: dict[str, list[PodView]] = field(default_factory=dict)  # by role, gateways too
    stays: dict[Role, int] = field(default_factory=dict)
    published: dict[Role, int] = field(default_factory=dict)  # what each workload should have, for the metric
    actuators: Actuators = field(default_factory=Actuators)
    stall: Stall | None = None
    pending: str = ""
    busy: bool = False
    notes: list[News] = field(default_factory=list)

    def deployment(self, role: str) -> Manifest | None:
        """The live Deployment of a role, if it is ours."""
        for ref, child in self.children.items():
            labels = child["metadata"].get("labels") or {}
            if ref.kind == "Deployment" and labels.get(ROLE_LABEL) == role and controlled_by(child, self.service.uid):
                return child
        return None

    def waits_for_accelerators(self) -> bool:
        """Whether a pod of the service finds no node: a draining one may hold what it waits for."""
        troubles = [pod.trouble for views in self.pods.values() for pod in views if not pod.terminating]
        return any(trouble is not None and trouble.reason == "Unschedulable" for trouble in troubles)

    def pool_facts(self) -> dict[Role, PoolFacts]:
        """The engine pools as observed."""
        bounds = bounds_of(self.service)
        return {
            role: self._facts(role.value, bounds[role.value].min, self.stays.get(role, bounds[role.value].min))
            for role in self.service.spec.roles
        }

    def gateway_facts(self) -> PoolFacts:
        """The gateways as observed. One is enough to serve."""
        return self._facts(GATEWAY, 1, self.service.spec.gateway.replicas)

    def _facts(self, role: str, least: int, desired: int) -> PoolFacts:
        deployment = self.deployment(role)
        facts = PoolFacts(role, least, desired, self.pods.get(role, ()))
        if deployment is None:
            return facts
        return replace(
            facts,
            revision=revision_of(deployment),
            rolling=rolling(deployment),
            problem=creation_problem(deployment),
        )
