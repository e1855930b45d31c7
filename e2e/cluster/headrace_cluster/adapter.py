"""prometheus-adapter in the node: the external metrics API, which HorizontalPodAutoscalers read from Prometheus."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace_cluster import policy
from headrace_cluster.components import Component
from headrace_cluster.layout import Layout

NAME = "metrics-adapter"
_NAMESPACE = "kube-system"
_PORT = 6444  # beside the API server's 6443
_GROUP, _VERSION = "external.metrics.k8s.io", "v1beta1"
API_SERVICE = f"/apis/apiregistration.k8s.io/v1/apiservices/{_VERSION}.{_GROUP}"
# The name by which the API server knows the adapter's certificate.
HOST = f"{NAME}.{_NAMESPACE}.svc"
USER = "headrace-metrics-adapter"


def component(binary: Path, layout: Layout, rules: Path, prometheus_url: str) -> Component:
    """The adapter as a process of the node, with `rules` as its configuration."""
    kubeconfig = layout.pki / f"{NAME}.kubeconfig"
    flags: Mapping[str, object] = {
        "config": rules,
        "prometheus-url": prometheus_url,
        # Every 10 minutes by default; a test waits for the first series.
        "metrics-relist-interval": "2s",
        "metrics-max-age": "1m",
        "bind-address": "127.0.0.1",
        "secure-port": _PORT,
        "tls-cert-file": layout.pki / f"{NAME}-server.crt",
        "tls-private-key-file": layout.pki / f"{NAME}-server.key",
        "lister-kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        # It would need rights on every FlowSchema of the cluster, for one client.
        "enable-priority-and-fairness": "false",
    }
    return Component(NAME, (str(binary), *(f"--{flag}={value}" for flag, value in flags.items())))


def manifests(layout: Layout) -> list[tuple[str, dict[str, Any]]]:
    """Pairs of an API collection's path and an object: rights, address, and the API that is served."""
    reader = {
        "apiVersion": policy.RBAC,
        "kind": "RoleBinding",
        "metadata": {"name": NAME, "namespace": _NAMESPACE},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [{"kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io"}],
    }
    # The API server runs in the same network namespace, and takes an external name as it is.
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": _NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{_VERSION}.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "version": _VERSION,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": NAME, "namespace": _NAMESPACE, "port": _PORT},
            "caBundle": base64.b64encode((layout.pki / "ca.crt").read_bytes()).decode(),
        },
    }
    return [
        policy.user_binding(NAME, "system:auth-delegator", USER),
        (f"/apis/{policy.RBAC}/namespaces/{_NAMESPACE}/rolebindings", reader),
        (f"/api/v1/namespaces/{_NAMESPACE}/services", service),
        (API_SERVICE.rpartition("/")[0], api_service),
    ]


def available(api_service: Mapping[str, Any] | None) -> bool:
    """Whether the API server reaches the adapter."""
    conditions = ((api_service or {}).get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Available" and c["status"] == "True" for c in conditions)
