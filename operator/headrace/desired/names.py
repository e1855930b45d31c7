"""Names, labels and ports of a service's children. Everything that selects pods takes them from here."""

from typing import Any

from headrace.api.base import API_VERSION, GROUP, KIND
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService

Manifest = dict[str, Any]

ENGINE_PORT = 30000
BOOTSTRAP_PORT = 8998  # where decode engines ask a prefill engine for the address of its KV
GATEWAY_PORT = 8080
GATEWAY_METRICS_PORT = 29000
SERVICE_PORT = 80

SERVICE_LABEL = f"{GROUP}/service"
ROLE_LABEL = f"{GROUP}/role"
STATE_LABEL = f"{GROUP}/state"
REVISION_LABEL = f"{GROUP}/revision"
SERVING = "serving"

GATEWAY = "gateway"  # the component beside the engine roles


def pool_name(service: InferenceService, role: Role) -> str:
    """The Deployment, the headless Service and the PodDisruptionBudget of a role."""
    return f"{service.name}-{role.value}"


def engine_config_name(service: InferenceService, role: Role) -> str:
    """The ConfigMap with a role's engine.json and queue.json."""
    return f"{service.name}-{role.value}-engine"


def engine_name(service: InferenceService) -> str:
    """The ServiceAccount and the NetworkPolicy of all engines."""
    return f"{service.name}-engine"


def gateway_name(service: InferenceService) -> str:
    """Everything that is the gateway's, but the Service that clients use: that one has the service's own name."""
    return f"{service.name}-{GATEWAY}"


def selector(service: InferenceService, component: str) -> dict[str, str]:
    """The labels that never change while a pod lives, so that workloads may select by them."""
    return {SERVICE_LABEL: service.name, ROLE_LABEL: component}


def engine_selector(service: InferenceService) -> dict[str, Any]:
    """A label selector for the engines of every role."""
    roles = [role.value for role in service.spec.roles]
    return {
        "matchLabels": {SERVICE_LABEL: service.name},
        "matchExpressions": [{"key": ROLE_LABEL, "operator": "In", "values": roles}],
    }


def common_labels(service: InferenceService) -> dict[str, str]:
    """The labels of every child."""
    return {
        SERVICE_LABEL: service.name,
        "app.kubernetes.io/name": "headrace",
        "app.kubernetes.io/instance": service.name,
        "app.kubernetes.io/managed-by": "headrace",
    }


def component_labels(service: InferenceService, component: str) -> dict[str, str]:
    """The labels of a child that belongs to one role or to the gateway."""
    return common_labels(service) | {ROLE_LABEL: component, "app.kubernetes.io/component": component}


def child(
    service: InferenceService, api_version: str, kind: str, name: str, component: str | None, **content: Any
) -> Manifest:
    """A manifest of a child, owned by the service. `component` None: it belongs to all of them."""
    labels = common_labels(service) if component is None else component_labels(service, component)
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": service.namespace,
            "labels": labels,
            "ownerReferences": [_owner(service)],
        },
        **content,
    }


def _owner(service: InferenceService) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": service.name,
        "uid": service.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
