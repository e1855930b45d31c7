"""Metrics for the Prometheus operator, where its kinds are installed."""

from typing import Any

from headrace.api.v1alpha1 import InferenceService
from headrace.desired.names import (
    GATEWAY,
    REVISION_LABEL,
    ROLE_LABEL,
    SERVICE_LABEL,
    Manifest,
    child,
    engine_name,
    engine_selector,
    gateway_name,
    selector,
)

# Half the look-back of 10 s that a decision uses, so that one slow scrape does not leave it without a sample.
_INTERVAL = "5s"


def pod_monitors(service: InferenceService) -> list[Manifest]:
    """One PodMonitor for the engines, one for the gateways."""
    gateways = {"matchLabels": selector(service, GATEWAY)}
    return [
        _monitor(service, engine_name(service), None, engine_selector(service), "http"),
        _monitor(service, gateway_name(service), GATEWAY, gateways, "metrics"),
    ]


def _monitor(service: InferenceService, name: str, component: str | None, pods: dict[str, Any], port: str) -> Manifest:
    spec = {
        "selector": pods,
        "podTargetLabels": [SERVICE_LABEL, ROLE_LABEL, REVISION_LABEL],
        "podMetricsEndpoints": [{"port": port, "path": "/metrics", "interval": _INTERVAL}],
    }
    return child(service, "monitoring.coreos.com/v1", "PodMonitor", name, component, spec=spec)
