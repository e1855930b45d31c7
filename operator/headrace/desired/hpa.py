"""Mode HPA: for each pool a HorizontalPodAutoscaler that writes the number which Headrace publishes, and no other."""

from typing import Any

from headrace.api.pools import MAX_REPLICAS
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.names import Manifest, child, pool_name

# The operator's gauge, with the labels of `metric_labels` and the namespace. charts/prometheus-adapter/config.yaml
# hands it on as an external metric.
METRIC = "headrace_desired_replicas"
# The least pool in which one replica more or less is within the 10 % that a HorizontalPodAutoscaler overlooks unless
# it is told otherwise: from 10 to 9 the ratio is 0.9.
_OVERLOOKED_FROM = 10
# Any value will do where the policy allows the whole pool at once; this is the default of Kubernetes' own.
_PERIOD_S = 15


def autoscalers(service: InferenceService) -> list[Manifest]:
    """One for each engine pool, named like its Deployment."""
    return [
        child(
            service,
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            pool_name(service, role),
            role.value,
            spec=_spec(service, role),
        )
        for role in service.spec.roles
    ]


def metric_labels(service: InferenceService, role: Role) -> dict[str, str]:
    """The gauge's labels that tell one pool of a namespace from the others."""
    return {"service": service.name, "role": role.value}


def scale_target(service: InferenceService, role: Role) -> dict[str, str]:
    """The Deployment of a role, as actuators name it."""
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": pool_name(service, role)}


def behavior(most: int) -> dict[str, Any]:
    """Follow at once and all the way: Headrace's guards have damped the number already.

    `tolerance` is left out where no step is small enough to need it, since Kubernetes before 1.33 refuses the field.
    """
    rules: dict[str, Any] = {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [{"type": "Pods", "value": MAX_REPLICAS, "periodSeconds": _PERIOD_S}],
    }
    if most >= _OVERLOOKED_FROM:
        rules["tolerance"] = "0"
    return {"scaleUp": rules, "scaleDown": dict(rules)}


def _spec(service: InferenceService, role: Role) -> dict[str, Any]:
    bounds = service.spec.pool(role).replicas
    metric = {"name": METRIC, "selector": {"matchLabels": metric_labels(service, role)}}
    # replicas = ceil(metric / 1): with 3 published, 3, whatever number there is now.
    target = {"type": "AverageValue", "averageValue": "1"}
    return {
        "scaleTargetRef": scale_target(service, role),
        "minReplicas": bounds.min,
        "maxReplicas": bounds.upper,
        "metrics": [{"type": "External", "external": {"metric": metric, "target": target}}],
        "behavior": behavior(bounds.upper),
    }
