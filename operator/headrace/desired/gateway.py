"""The gateway: smg behind one Service, finding its engines by label."""

from typing import Any

from headrace.api.roles import Role
from headrace.api.serving import GatewayPolicy
from headrace.api.v1alpha1 import InferenceService, Topology
from headrace.desired.names import (
    ENGINE_PORT,
    GATEWAY,
    GATEWAY_METRICS_PORT,
    GATEWAY_PORT,
    SERVICE_PORT,
    SERVING,
    STATE_LABEL,
    Manifest,
    child,
    gateway_name,
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

_RBAC_GROUP = "rbac.authorization.k8s.io"

_POLICIES = {
    GatewayPolicy.CACHE_AWARE: "cache_aware",
    GatewayPolicy.ROUND_ROBIN: "round_robin",
    GatewayPolicy.POWER_OF_TWO: "power_of_two",
    GatewayPolicy.LEAST_LOAD: "least_load",
    GatewayPolicy.RANDOM: "random",
}
# The KV of a request comes to whichever decode engine is picked, so there is no cache to be aware of: of two at random,
# the one with fewer requests in flight. Turns would give one that is slow or full as many as one that has just started.
_DECODE_POLICY, _POWER_OF_TWO_METRIC = "power_of_two", "least_requests"
# What is in flight at a prefill engine waits there, so a prefix is worth few places in its queue. smg's own 64 and 1.5,
# which hold four to eight requests above the mean, are for engines that decode as well.
PREFILL_SPILL_ABSOLUTE, PREFILL_SPILL_RELATIVE = 2, 1.1
# At its own SIGTERM the gateway finishes the streams that it carries; 180 s is smg's default, 20 s more let it leave.
_DRAIN_S = 180
_GRACE_S = _DRAIN_S + 20
# smg's default of 60 s keeps an engine that came back after a crash without work for a minute.
_HEALTH_INTERVAL_S = 10
# An engine in a long step, or one that shares its cores, answers late; three late answers in a row would take the last
# engine of a role away from all clients. An engine that is dead is taken out by the kubelet's probe at the same pace.
_HEALTH_TIMEOUT_S, _HEALTH_FAILURES = 10, 6
# smg leaves a worker out after 3 s without a token or 2 s without contact, the last one of a role too. A long prompt,
# or an engine that starts on the same cores, takes longer than that; a dead one is found by probes.
_WEDGE_S, _STALL_S = 60, 15
# smg leaves a worker with 8 waiting requests or 80 % of its KV out. It takes one all the same where all of the role are
# left out for load; but one that drains, starts or is dead is not left out for load, and then the last that serves gets
# nothing and clients get 503 at once. Engines queue (docs/decisions/2026-11-23-gateway-overload.md).
_NO_OVERLOAD_VETO = "--disable-worker-overload-protection"
# Five retries after 0.25, 0.5, 1, 2 and 4 s: 8 s, in which a request that a dying engine refused finds another one.
_RETRY_BACKOFF_MS, _RETRY_FACTOR = 250, 2


def gateway(service: InferenceService, settings: DesiredSettings) -> list[Manifest]:
    """The gateway's Deployment, its Service, and the identity by which it may watch pods."""
    name = gateway_name(service)
    subject = {"kind": "ServiceAccount", "name": name, "namespace": service.namespace}
    pods_rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    rbac = f"{_RBAC_GROUP}/v1"
    reference = {"apiGroup": _RBAC_GROUP, "kind": "Role", "name": name}
    return [
        child(service, "v1", "ServiceAccount", name, GATEWAY, automountServiceAccountToken=False),
        child(service, rbac, "Role", name, GATEWAY, rules=[pods_rule]),
        child(service, rbac, "RoleBinding", name, GATEWAY, roleRef=reference, subjects=[subject]),
        child(service, "v1", "Service", service.name, GATEWAY, spec=_service_spec(service)),
        child(service, "policy/v1", "PodDisruptionBudget", name, GATEWAY, spec=disruption_budget(service, GATEWAY)),
        child(service, "apps/v1", "Deployment", name, GATEWAY, spec=_deployment_spec(service, settings)),
    ]


def command(service: InferenceService) -> list[str]:
    """smg's command line: both topologies find engines by label, `serving` being taken off a pod that drains."""
    arguments = ["smg", "launch", "--host", "0.0.0.0", "--port", str(GATEWAY_PORT)]  # noqa: S104  pods are reached from outside
    policy = _POLICIES[service.spec.gateway.policy]
    if service.spec.topology is Topology.DISAGGREGATED:
        arguments += ["--pd-disaggregation", "--prefill-policy", policy, "--decode-policy", _DECODE_POLICY]
        arguments += ["--power-of-two-load-metric", _POWER_OF_TWO_METRIC]
        arguments += ["--balance-abs-threshold", str(PREFILL_SPILL_ABSOLUTE)]
        arguments += ["--balance-rel-threshold", str(PREFILL_SPILL_RELATIVE)]
        arguments += ["--prefill-selector", *_engine_selector(service, Role.PREFILL)]
        arguments += ["--decode-selector", *_engine_selector(service, Role.DECODE)]
    else:
        arguments += ["--policy", policy, "--selector", *_engine_selector(service, Role.WORKER)]
    arguments += ["--service-discovery", "--service-discovery-port", str(ENGINE_PORT)]
    arguments += ["--service-discovery-namespace", service.namespace]
    arguments += ["--health-check-interval-secs", str(_HEALTH_INTERVAL_S)]
    arguments += ["--health-check-timeout-secs", str(_HEALTH_TIMEOUT_S)]
    arguments += ["--health-failure-threshold", str(_HEALTH_FAILURES)]
    arguments += ["--worker-wedge-secs", str(_WEDGE_S), "--worker-stall-secs", str(_STALL_S)]
    arguments += [_NO_OVERLOAD_VETO]
    arguments += [
        "--retry-initial-backoff-ms",
        str(_RETRY_BACKOFF_MS),
        "--retry-backoff-multiplier",
        str(_RETRY_FACTOR),
    ]
    arguments += ["--prometheus-port", str(GATEWAY_METRICS_PORT), "--prometheus-host", "0.0.0.0"]  # noqa: S104  as above
    return [*arguments, "--shutdown-grace-period-secs", str(_DRAIN_S), "--log-json"]


def _engine_selector(service: InferenceService, role: Role) -> list[str]:
    labels = selector(service, role.value) | {STATE_LABEL: SERVING}
    return [f"{key}={value}" for key, value in labels.items()]


def _service_spec(service: InferenceService) -> dict[str, Any]:
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    return {"type": "ClusterIP", "selector": selector(service, GATEWAY), "ports": [port]}


def _deployment_spec(service: InferenceService, settings: DesiredSettings) -> dict[str, Any]:
    block = service.spec.gateway
    pods = {"matchLabels": selector(service, GATEWAY)}
    # Over several nodes where there are some: a lost node then leaves a gateway.
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod = {
        "serviceAccountName": gateway_name(service),
        "automountServiceAccountToken": True,  # it watches pods
        "terminationGracePeriodSeconds": _GRACE_S,
        "topologySpreadConstraints": [{**spread, "labelSelector": pods}],
        "containers": [_container(service, settings)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    annotations = scrape_annotations(GATEWAY_METRICS_PORT)
    return {
        "replicas": block.replicas,
        "revisionHistoryLimit": 2,
        "selector": pods,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": pod_template(service, GATEWAY, block.pod_template, spec=pod, annotations=annotations),
    }


def _container(service: InferenceService, settings: DesiredSettings) -> dict[str, Any]:
    return {
        "name": GATEWAY,
        "image": settings.gateway_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": command(service),
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  a pod has a /tmp of its own
        "ports": [
            {"name": "http", "containerPort": GATEWAY_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": GATEWAY_METRICS_PORT, "protocol": "TCP"},
        ],
        # Not ready before an engine of each role is found: clients get no connection instead of errors.
        "readinessProbe": http_probe("/readiness", "http", period_s=2, timeout_s=2, failures=2),
        "livenessProbe": http_probe("/liveness", "http", period_s=10, timeout_s=5, failures=6),
        "resources": resources(service.spec.gateway.resources),
        "securityContext": dict(CONTAINER_SECURITY),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108  as above
    }
