"""From an InferenceService to the manifests of its children (pure, deterministic)."""

import hashlib
import json

from headrace.api.pools import ScalingMode
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.engine import engine_identity, engine_pool
from headrace.desired.engine_config import engine_json
from headrace.desired.gateway import gateway
from headrace.desired.hpa import autoscalers
from headrace.desired.keda import scaled_objects
from headrace.desired.names import Manifest, pool_name
from headrace.desired.network import network_policies
from headrace.desired.settings import DesiredSettings


def build(service: InferenceService, settings: DesiredSettings) -> tuple[Manifest, ...]:
    """Every child of a service. What an earlier spec asked for and this tuple lacks is to be pruned.

    The engines' Deployments carry no `replicas`: see `initial_replicas`.
    """
    revision = revision_of(service, settings)
    manifests = [engine_identity(service)]
    for role in service.spec.roles:
        manifests += engine_pool(service, role, revision, settings)
    manifests += gateway(service, settings)
    manifests += network_policies(service, settings)
    if service.spec.autoscaling.mode is ScalingMode.HPA:
        manifests += autoscalers(service)
    if service.spec.autoscaling.mode is ScalingMode.KEDA:
        manifests += scaled_objects(service, settings)
    return tuple(manifests)


def initial_replicas(service: InferenceService) -> dict[str, int]:
    """What each Deployment of engines is born with, by its name; from then on the autoscaler's word holds."""
    return {pool_name(service, role): service.spec.pool(role).replicas.min for role in service.spec.roles}


def revision_of(service: InferenceService, settings: DesiredSettings) -> str:
    """Ten hex digits over what makes engines able to work together: image, environment, configuration of every role.

    One for all roles: prefill and decode engines of different revisions must not exchange KV. Without queue.json, which
    running engines read again: a changed objective must not roll them.
    """
    spec = service.spec
    relevant = {
        "image": spec.engine.image or settings.engine_image,
        "env": [variable.to_wire() for variable in spec.engine.env],
        "accelerator": spec.accelerator,
        "engines": {role.value: engine_json(service, role, settings) for role in spec.roles},
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:10]
