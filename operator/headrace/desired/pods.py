"""What all our pods share: the restricted security context, the writable folders, the user's overlay."""

from collections.abc import Mapping
from typing import Any

from headrace.api.pods import PodTemplate, Resources
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.names import REVISION_LABEL, SERVING, STATE_LABEL, Manifest, component_labels, selector

# The user "nobody" of distroless images: unprivileged wherever it comes from.
_USER = 65532

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "runAsGroup": _USER,
    "fsGroup": _USER,
    "fsGroupChangePolicy": "OnRootMismatch",  # else the kubelet walks over a whole model at each start
    "seccompProfile": {"type": "RuntimeDefault"},
}


def resources(wanted: Resources, extended: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The container's resources; `extended` (accelerators) is asked for and limited alike, as Kubernetes demands."""
    extra = dict(extended or {})
    requests = {**wanted.requests, **extra}
    limits = {**wanted.limits, **extra}
    return {key: values for key, values in (("requests", requests), ("limits", limits)) if values}


def http_probe(path: str, port: str, *, period_s: int, timeout_s: int, failures: int) -> dict[str, Any]:
    """An HTTP probe; it fails after `failures` times `period_s` seconds."""
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def pod_template(
    service: InferenceService,
    component: str,
    overlay: PodTemplate,
    *,
    spec: dict[str, Any],
    annotations: Mapping[str, str],
    node_selector: Mapping[str, str] | None = None,
    revision: str | None = None,
) -> Manifest:
    """A pod template: ours, with the user's overlay below it, so that nothing serving needs can be overlaid."""
    labels = {**overlay.labels, **component_labels(service, component), STATE_LABEL: SERVING}
    if revision is not None:
        labels[REVISION_LABEL] = revision
    optional: dict[str, Any] = {
        "nodeSelector": {**(node_selector or {}), **overlay.node_selector},
        "tolerations": [toleration.to_wire() for toleration in overlay.tolerations],
        "priorityClassName": overlay.priority_class_name,
        "runtimeClassName": overlay.runtime_class_name,
        "imagePullSecrets": [secret.to_wire() for secret in service.spec.image_pull_secrets],
    }
    return {
        "metadata": {"labels": labels, "annotations": {**overlay.annotations, **annotations}},
        "spec": {
            "securityContext": dict(POD_SECURITY),
            "enableServiceLinks": False,
            **{key: value for key, value in optional.items() if value},
            **spec,
        },
    }


def disruption_budget(service: InferenceService, component: str) -> dict[str, Any]:
    """One pod of a component at a time may be evicted; one that serves nobody may always be."""
    return {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(service, component)},
    }


def scrape_annotations(port: int) -> dict[str, str]:
    """The annotations by which a plain Prometheus finds a pod's metrics."""
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": "/metrics"}
