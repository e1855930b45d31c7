"""The engines of one role: their Deployment, their configuration, and what goes with them."""

from typing import Any

from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.catalog.accelerators import Accelerator, lookup
from headrace.desired.engine_config import engine_json, queue_json
from headrace.desired.model_volume import CACHE, credentials_env, model_mount
from headrace.desired.names import (
    BOOTSTRAP_PORT,
    ENGINE_PORT,
    Manifest,
    child,
    engine_config_name,
    engine_name,
    pool_name,
    selector,
)
from headrace.desired.pods import (
    CONTAINER_SECURITY,
    disruption_budget,
    http_probe,
    pod_template,
    resources,
    scrape_annotations,
)
from headrace.desired.settings import DesiredSettings

CONFIG_FOLDER = "/etc/headrace"
CONFIG_FILE = "engine.json"
QUEUE_FILE = "queue.json"
BOOTSTRAP_ANNOTATION = "sglang.ai/bootstrap-port"  # where the gateway's discovery reads a prefill engine's port

# Libraries that compile or download write here; the root file system is read-only.
_CACHE_ENV = {
    "HOME": CACHE,
    "XDG_CACHE_HOME": f"{CACHE}/xdg",
    "HF_HOME": f"{CACHE}/huggingface",
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
}
# After its drain deadline the engine still has to end its processes: seconds, measured at most 22.
_EXIT_S = 30
_STARTUP_PERIOD_S = 5


def engine_pool(service: InferenceService, role: Role, revision: str, settings: DesiredSettings) -> list[Manifest]:
    """Everything of one role. The Deployment has no `replicas`: that field is the autoscaler's."""
    name = pool_name(service, role)
    config = {CONFIG_FILE: engine_json(service, role, settings), QUEUE_FILE: queue_json(service)}
    spec = _deployment_spec(service, role, revision, settings)
    budget = disruption_budget(service, role.value)
    return [
        child(service, "v1", "ConfigMap", engine_config_name(service, role), role.value, data=config),
        child(service, "v1", "Service", name, role.value, spec=_service_spec(service, role)),
        child(service, "policy/v1", "PodDisruptionBudget", name, role.value, spec=budget),
        child(service, "apps/v1", "Deployment", name, role.value, spec=spec),
    ]


def engine_identity(service: InferenceService) -> Manifest:
    """The engines' ServiceAccount. They have no business with the API server, so no token is mounted."""
    return child(service, "v1", "ServiceAccount", engine_name(service), None, automountServiceAccountToken=False)


def _service_spec(service: InferenceService, role: Role) -> dict[str, Any]:
    ports = [{"name": "http", "port": ENGINE_PORT, "targetPort": "http", "protocol": "TCP"}]
    if role is Role.PREFILL:
        ports.append({"name": "bootstrap", "port": BOOTSTRAP_PORT, "targetPort": "bootstrap", "protocol": "TCP"})
    return {"type": "ClusterIP", "clusterIP": "None", "selector": selector(service, role.value), "ports": ports}


def _deployment_spec(service: InferenceService, role: Role, revision: str, settings: DesiredSettings) -> dict[str, Any]:
    pool = service.spec.pool(role)
    accelerator = lookup(service.spec.accelerator)
    pod = {
        "serviceAccountName": engine_name(service),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": settings.drain_deadline_s + _EXIT_S,
        "containers": [_container(service, role, accelerator, settings)],
        "volumes": _volumes(service, role, accelerator),
    }
    annotations = scrape_annotations(ENGINE_PORT)
    if role is Role.PREFILL:
        annotations[BOOTSTRAP_ANNOTATION] = str(BOOTSTRAP_PORT)
    return {
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": settings.startup_deadline_s + 60,  # it must be longer than a start may take
        "selector": {"matchLabels": selector(service, role.value)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pod_template(
            service,
            role.value,
            pool.pod_template,
            spec=pod,
            annotations=annotations,
            node_selector=accelerator.node_selector,
            revision=revision,
        ),
    }


def _container(
    service: InferenceService, role: Role, accelerator: Accelerator, settings: DesiredSettings
) -> dict[str, Any]:
    pool = service.spec.pool(role)
    extended = {accelerator.resource_name: str(pool.parallelism.accelerators)} if accelerator.resource_name else {}
    ports = [{"name": "http", "containerPort": ENGINE_PORT, "protocol": "TCP"}]
    if role is Role.PREFILL:
        ports.append({"name": "bootstrap", "containerPort": BOOTSTRAP_PORT, "protocol": "TCP"})
    starts = -(-settings.startup_deadline_s // _STARTUP_PERIOD_S)
    return {
        "name": "engine",
        "image": service.spec.engine.image or settings.engine_image,
        "imagePullPolicy": settings.image_pull_policy,
        # The image's entry point says which engine it is: all read the same configuration file.
        "args": ["serve", "--config", f"{CONFIG_FOLDER}/{CONFIG_FILE}"],
        "env": _env(service),
        "ports": ports,
        "startupProbe": http_probe("/health", "http", period_s=_STARTUP_PERIOD_S, timeout_s=5, failures=starts),
        # Gateways drop a pod that is not ready: a busy moment must not do that, and a drain does not wait for it.
        "readinessProbe": http_probe("/ready", "http", period_s=3, timeout_s=5, failures=4),
        # A busy engine may be slow to answer for many seconds; a restart would lose all its streams, so a minute.
        "livenessProbe": http_probe("/health", "http", period_s=10, timeout_s=10, failures=6),
        "resources": resources(pool.resources, extended),
        "securityContext": dict(CONTAINER_SECURITY),
        "terminationMessagePolicy": "FallbackToLogsOnError",  # an engine's last words reach the conditions
        "volumeMounts": _mounts(service),
    }


def _env(service: InferenceService) -> list[dict[str, Any]]:
    """The user's variables come first, so that Headrace's own hold where they meet."""
    own: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in _CACHE_ENV.items()]
    own += [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SGLANG_HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        # Without it each probe of /health generates a token in the batch of the requests.
        {"name": "SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION", "value": "0"},
    ]
    own += credentials_env(service)
    taken = {entry["name"] for entry in own}
    theirs = [variable.to_wire() for variable in service.spec.engine.env if variable.name not in taken]
    return theirs + own


def _volumes(service: InferenceService, role: Role, accelerator: Accelerator) -> list[dict[str, Any]]:
    # Tensor parallel ranks exchange through shared memory; the medium counts against the container's memory.
    shared_memory = "1Gi" if accelerator.resource_name is None else "8Gi"
    model = model_mount(service.spec.model.location).volume
    return [
        {"name": "config", "configMap": {"name": engine_config_name(service, role)}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "cache", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": shared_memory}},
        *([model] if model else []),
    ]


def _mounts(service: InferenceService) -> list[dict[str, Any]]:
    model = model_mount(service.spec.model.location).mount
    return [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a pod has a /tmp of its own
        {"name": "cache", "mountPath": CACHE},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108  as above
        *([model] if model else []),
    ]
