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
# The sleep also leaves the cores to engines that start. With 0.2 s a step an engine prefills CHUNK tokens in about
# 0.22 s (580 tokens a second), and decodes RUNNING requests at one token each 0.24 s (33 tokens a second).
CHUNK, RUNNING = 128, 8
SPEC_OVERLAY: dict[str, Any] = {
    "slo": {"ttft": "5s", "tpot": "800ms", "percentile": 90},
    "engine": {
        "contextLength": 2048,
        "maxRunningRequests": RUNNING,
        "chunkedPrefillSize": CHUNK,
        "slowDownSeconds": 0.2,
    },
}


@dataclass(frozen=True, slots=True)
class Script:
    """The load. Of prompts of 640 and answers of 32 tokens, one pair of engines does 0.9 and 1.0 a second.

    Low: a quarter of that. High: 1.3 times what one pair does, two thirds of what two do.
    """

    low: Phase = field(default_factory=lambda: Phase("low", 0.25, 420, 640, 32))
    warm_s: float = 30
    high: Phase = field(default_factory=lambda: Phase("high", 1.2, 330, 640, 32))
    hold_s: float = 90  # both pools at two under full load: long enough for the queue to go, and the plots to show it
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
