"""The key of an InferenceService: all that an event is reduced to."""

from collections.abc import Mapping
from typing import Any, NamedTuple

SERVICE_LABEL = "headrace.dev/service"
ROLE_LABEL = "headrace.dev/role"


class Key(NamedTuple):
    """Namespace and name of an InferenceService."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def key_of(manifest: Mapping[str, Any]) -> Key:
    """The object's own namespace and name."""
    metadata = manifest["metadata"]
    return Key(metadata["namespace"], metadata["name"])


def owner_key(child: Mapping[str, Any]) -> Key | None:
    """The InferenceService that a child or pod says it belongs to; None without the label."""
    metadata = child["metadata"]
    name = (metadata.get("labels") or {}).get(SERVICE_LABEL)
    return Key(metadata["namespace"], name) if name else None
