"""What the demo does: the sizes and limits of its load, and the settings that make minutes into seconds."""

from dataclasses import dataclass, field
from typing import Any

from e2e.load.phases import Phase

NAMESPACE = "default"
SERVED_NAME = "tiny"

# Windows and holds are minutes in production, since engines take minutes to start; here they start within two.
OPERATOR_ENV = {
    "HEADRACE_AUTOSCALE_INTERVAL_S": "2",
    "HEADRACE_SCALE_DOWN_WINDOW_S": "20",
    "HEADRACE_RESTART_HOLD_S": "10",
    "HEADRACE_MAX_STARTING": "2",  # more than two engines that start together on two cores starve each other
    "HEADRACE_IMAGE_PULL_POLICY": "IfNotPresent",
}

# Two engines on two cores share them, so each is slowed by a fixed sleep a step: then two serve twice what one does.
# With 0.1 s a step an engine prefills CHUNK tokens in about 0.12 s (1,060 tokens a second), and decodes RUNNING
# requests at one token each 0.15 s (53 tokens a second).
CHUNK, RUNNING = 128, 8
SPEC_OVERLAY: dict[str, Any] = {
    "slo": {"ttft": "4s", "tpot": "500ms", "percentile": 90},
    "engine": {
        "contextLength": 2048,
        "maxRunningRequests": RUNNING,
        "chunkedPrefillSize": CHUNK,
        "slowDownSeconds": 0.1,
    },
}


@dataclass(frozen=True, slots=True)
class Script:
    """The load. Of prompts of 640 and answers of 24 tokens, one pair of engines does 1.6 and 2.2 a second.

    Low: a quarter of that. High: more than one prefill engine does, within what two do.
    """

    low: Phase = field(default_factory=lambda: Phase("low", 0.4, 420, 640, 24))
    warm_s: float = 30
    high: Phase = field(default_factory=lambda: Phase("high", 2.0, 330, 640, 24))
    hold_s: float = 30  # both pools at two under full load, so that the plots show what growth brought
    ready_limit_s: float = 300  # two engines that start together take 71 s; a machine busy otherwise several times that
    seed: int = 1
    max_in_flight: int = 400
    request_timeout_s: float = 240


def sample_manifest(sample: dict[str, Any], model_path: str) -> dict[str, Any]:
    """The committed sample with the model of this machine and the demo's sizes."""
    spec = {**sample["spec"], **SPEC_OVERLAY}
    spec["model"] = {"source": f"file://{model_path}", "servedName": SERVED_NAME}
    return {**sample, "metadata": {**sample["metadata"], "namespace": NAMESPACE}, "spec": spec}


def operator_manifests(rendered: list[dict[str, Any]], env: dict[str, str]) -> list[dict[str, Any]]:
    """The operator's manifests with further environment, as the demo's cluster can run them."""
    changed = []
    for manifest in rendered:
        match manifest["kind"]:
            case "Deployment":
                changed.append(_with_env(manifest, env))
            case "Namespace":
                changed.append(_without_enforcement(manifest))
            case _:
                changed.append(manifest)
    return changed


def _with_env(deployment: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """One replica, since the demo's machine has two cores, and the demo's settings."""
    template = deployment["spec"]["template"]
    variables = [{"name": name, "value": value} for name, value in env.items()]
    containers = [{**c, "env": [*c.get("env", ()), *variables]} for c in template["spec"]["containers"]]
    pod = {**template, "spec": {**template["spec"], "containers": containers}}
    return {**deployment, "spec": {**deployment["spec"], "replicas": 1, "template": pod}}


def _without_enforcement(namespace: dict[str, Any]) -> dict[str, Any]:
    """The embedded cluster's images are mounts of the machine's own folders, which Pod Security refuses: warn only."""
    labels = {k: v for k, v in namespace["metadata"]["labels"].items() if k != "pod-security.kubernetes.io/enforce"}
    return {**namespace, "metadata": {**namespace["metadata"], "labels": labels}}
