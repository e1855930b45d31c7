"""What the manifests need to know beside the service itself: the operator's own settings, as plain values."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DesiredSettings:
    """Immutable; the same settings and the same service give the same manifests, byte for byte."""

    engine_image: str = "headrace/engine:dev"
    gateway_image: str = "headrace/gateway:dev"
    image_pull_policy: str = "IfNotPresent"
    operator_namespace: str = "headrace-system"
    # Namespaces whose pods may read metrics. "monitoring" is where the common Prometheus charts install.
    metrics_namespaces: tuple[str, ...] = ("monitoring",)
    # Where KEDA asks for the decided replicas; empty: the operator was told of no Prometheus.
    prometheus_url: str = ""
    # An engine that was told to end finishes what it has for at most so long: nearly all streams are shorter.
    drain_deadline_s: int = 600
    # A large model may come over the network first: 64 GB at 1 Gbit/s take 9 minutes, loading and warm-up some more.
    startup_deadline_s: int = 1800
