"""How a model comes into an engine's pod: as a volume, or over the network into the pod's cache."""

from dataclasses import dataclass
from typing import Any

from headrace.api.source import ModelSource, Scheme
from headrace.api.v1alpha1 import InferenceService

CACHE = "/var/cache/headrace"
_CLAIM_MOUNT = "/models"


@dataclass(frozen=True, slots=True)
class ModelMount:
    """The path (or hub name) under which the engine opens the model, and what the pod needs for it."""

    path: str
    volume: dict[str, Any] | None = None
    mount: dict[str, Any] | None = None


def model_mount(source: ModelSource) -> ModelMount:
    """Where the model of a source stands in the pod.

    file:///PATH is mounted from the node, read-only and at the same path; the kubelet refuses the pod where the folder
    is missing. Pod Security `restricted` forbids that kind of volume, so it is for test clusters.
    """
    match source.scheme:
        case Scheme.HUB:
            return ModelMount(source.place)
        case Scheme.VOLUME_CLAIM:
            path = f"{_CLAIM_MOUNT}/{source.path}".rstrip("/")
            return ModelMount(
                path,
                {"name": "model", "persistentVolumeClaim": {"claimName": source.place, "readOnly": True}},
                {"name": "model", "mountPath": _CLAIM_MOUNT, "readOnly": True},
            )
        case Scheme.FILE:
            return ModelMount(
                source.path,
                {"name": "model", "hostPath": {"path": source.path, "type": "Directory"}},
                {"name": "model", "mountPath": source.path, "readOnly": True},
            )


def credentials_env(service: InferenceService) -> list[dict[str, Any]]:
    """The hub's token, straight from its Secret: it is never in a manifest, an argument or a log."""
    secret = service.spec.model.credentials
    if secret is None:
        return []
    reference = {"name": secret.name, "key": secret.key}
    return [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": reference}}]
