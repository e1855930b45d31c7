"""`status.resolved`: the spec with every default filled in, so that nobody has to know the defaults by heart."""

from typing import Any

from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceServiceSpec


def resolve(spec: InferenceServiceSpec) -> dict[str, Any]:
    """Every setting that holds, as plain JSON: the spec's own and the defaults. Empty maps and lists are left out."""
    resolved: dict[str, Any] = _without_empty(spec.to_wire())
    resolved["model"]["servedName"] = spec.model.name
    for role in spec.roles:
        resolved[role.value] = _resolve_pool(spec, role)
    return resolved


def _resolve_pool(spec: InferenceServiceSpec, role: Role) -> dict[str, Any]:
    pool = spec.pool(role)
    resolved: dict[str, Any] = _without_empty(pool.to_wire())
    resolved["replicas"] = {"min": pool.replicas.min, "max": pool.replicas.upper}
    resolved["acceleratorsPerReplica"] = 0 if spec.accelerator == "cpu" else pool.parallelism.accelerators
    return resolved


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    cleaned = {key: _without_empty(inner) for key, inner in value.items()}
    return {key: inner for key, inner in cleaned.items() if inner not in ({}, [])}
