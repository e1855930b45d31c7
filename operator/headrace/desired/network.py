"""Who may speak to whom: engines take requests from their own gateway, KV from their peers, and nothing else."""

from typing import Any

from headrace.api.v1alpha1 import InferenceService
from headrace.desired.names import (
    ENGINE_PORT,
    GATEWAY,
    GATEWAY_METRICS_PORT,
    GATEWAY_PORT,
    Manifest,
    child,
    engine_name,
    engine_selector,
    gateway_name,
    selector,
)
from headrace.desired.settings import DesiredSettings

_API = "networking.k8s.io/v1"


def network_policies(service: InferenceService, settings: DesiredSettings) -> list[Manifest]:
    """One policy for the engines, one for the gateway. Whatever they do not name cannot reach these pods."""
    engines = engine_selector(service)
    gateway = {"matchLabels": selector(service, GATEWAY)}
    watchers = _watchers(settings)
    engine_rules = [
        _rule([{"podSelector": gateway}], ENGINE_PORT),
        # KV moves between engines over ports that the transfer library picks at its start, so no port is named here.
        {"from": [{"podSelector": engines}]},
        _rule(watchers, ENGINE_PORT),
    ]
    gateway_rules = [
        {"ports": [{"port": GATEWAY_PORT, "protocol": "TCP"}]},  # clients, from wherever they are
        _rule(watchers, GATEWAY_METRICS_PORT),
    ]
    return [
        _policy(service, engine_name(service), None, engines, engine_rules),
        _policy(service, gateway_name(service), GATEWAY, gateway, gateway_rules),
    ]


def _watchers(settings: DesiredSettings) -> list[dict[str, Any]]:
    """The operator and whoever collects metrics."""
    namespaces = dict.fromkeys((settings.operator_namespace, *settings.metrics_namespaces))
    return [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}} for name in namespaces]


def _rule(peers: list[dict[str, Any]], port: int) -> dict[str, Any]:
    return {"from": peers, "ports": [{"port": port, "protocol": "TCP"}]}


def _policy(
    service: InferenceService, name: str, component: str | None, pods: dict[str, Any], rules: list[dict[str, Any]]
) -> Manifest:
    spec = {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": rules}
    return child(service, _API, "NetworkPolicy", name, component, spec=spec)
