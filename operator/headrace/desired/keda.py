"""Mode KEDA: for each pool a ScaledObject that reads the number which Headrace publishes from Prometheus."""

from typing import Any

from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.hpa import METRIC, behavior, metric_labels, scale_target
from headrace.desired.names import Manifest, child, pool_name
from headrace.desired.settings import DesiredSettings


def scaled_objects(service: InferenceService, settings: DesiredSettings) -> list[Manifest]:
    """One for each engine pool, named like its Deployment; none where no Prometheus is known."""
    if not settings.prometheus_url:
        return []
    return [
        child(
            service,
            "keda.sh/v1alpha1",
            "ScaledObject",
            pool_name(service, role),
            role.value,
            spec=_spec(service, role, settings.prometheus_url),
        )
        for role in service.spec.roles
    ]


def _spec(service: InferenceService, role: Role, prometheus_url: str) -> dict[str, Any]:
    bounds = service.spec.pool(role).replicas
    labels = {"namespace": service.namespace, **metric_labels(service, role)}
    selector = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return {
        "scaleTargetRef": scale_target(service, role),
        "minReplicaCount": bounds.min,
        "maxReplicaCount": bounds.upper,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior(bounds.upper)}},
        "triggers": [
            {
                "type": "prometheus",
                "metricType": "AverageValue",  # replicas = ceil(metric / threshold)
                "metadata": {
                    "serverAddress": prometheus_url,
                    # Two operators may be seen for a moment when the leadership changes: their numbers don't add up.
                    "query": f"max({METRIC}{{{selector}}})",
                    "threshold": "1",
                    # KEDA takes no answer for 0 unless told otherwise, and would shrink every pool to its minimum
                    # when the operator or Prometheus is away.
                    "ignoreNullValues": "false",
                },
            }
        ],
    }
