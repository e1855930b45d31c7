"""Prometheus' configuration: every pod with a Headrace role, found through the API server."""

from pathlib import Path

import yaml

PORT = 9090
# The demo's autoscaler looks back over seconds, not minutes.
SCRAPE_INTERVAL = "2s"
# In a configuration file of the user's own this word becomes the path of Prometheus' kubeconfig.
KUBECONFIG_WORD = "${HEADRACE_KUBECONFIG}"
_ROLE = "__meta_kubernetes_pod_label_headrace_dev_role"
_PORTS = {"prefill|decode|worker": 30000, "gateway": 29000}


def _relabelings() -> list[dict[str, object]]:
    address: list[dict[str, object]] = [
        {
            "source_labels": [_ROLE, "__meta_kubernetes_pod_ip"],
            "regex": f"(?:{roles});(.+)",
            "target_label": "__address__",
            "replacement": f"${{1}}:{port}",
        }
        for roles, port in _PORTS.items()
    ]
    sources = {
        "__meta_kubernetes_pod_name": "pod",
        "__meta_kubernetes_namespace": "namespace",
        _ROLE: "role",
        "__meta_kubernetes_pod_label_headrace_dev_service": "service",
    }
    copies: list[dict[str, object]] = [
        {"source_labels": [source], "target_label": target} for source, target in sources.items()
    ]
    return [
        {"action": "keep", "source_labels": [_ROLE], "regex": "|".join(_PORTS)},
        {"action": "drop", "source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Pending|Succeeded|Failed"},
        *address,
        *copies,
    ]


def default_config(kubeconfig: Path) -> str:
    """The YAML used by `up --prometheus`.

    A pod with several ports is discovered several times; all get the same address and labels, which Prometheus merges.
    """
    discovery = {
        "role": "pod",
        "kubeconfig_file": str(kubeconfig),
        "selectors": [{"role": "pod", "label": "headrace.dev/role"}],
    }
    pods = {
        "job_name": "headrace-pods",
        # The text protocol keeps `sglang:...` names as they are; OpenMetrics would turn the colon into an underscore.
        "scrape_protocols": ["PrometheusText0.0.4"],
        "scrape_timeout": SCRAPE_INTERVAL,
        "kubernetes_sd_configs": [discovery],
        "relabel_configs": _relabelings(),
    }
    return yaml.safe_dump({"global": {"scrape_interval": SCRAPE_INTERVAL}, "scrape_configs": [pods]}, sort_keys=False)


def config(kubeconfig: Path, own_file: Path | None) -> str:
    """The default configuration, or the user's own file with KUBECONFIG_WORD filled in."""
    if own_file is None:
        return default_config(kubeconfig)
    return own_file.read_text().replace(KUBECONFIG_WORD, str(kubeconfig))
