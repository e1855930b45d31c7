"""The gates between "started" and "usable", in the order in which they open."""

import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from headrace_cluster import policy
from headrace_cluster.api import Api, reason
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout
from headrace_cluster.node import Node

# Measured 4 to 10 s on 2 idle cores for everything; a machine that builds beside it was seen to need a minute.
_PATIENCE_S = 180.0
_PAUSE_S = 0.05
# A component that ended this often doesn't come up by itself.
_CRASH_LOOP = 5


def wait(what: str, opened: Callable[[], bool], node: Node, layout: Layout) -> None:
    """Wait until `opened`; raises ClusterError naming a component that keeps ending, with its last words."""
    deadline = time.perf_counter() + _PATIENCE_S
    checked_s = time.perf_counter()
    while not opened():
        now_s = time.perf_counter()
        if now_s > deadline:
            raise ClusterError(f"Waited {_PATIENCE_S:.0f} s for {what}; the logs are in {layout.logs}.")
        if now_s - checked_s > 1.0:
            checked_s = now_s
            _raise_on_crash_loop(node, layout.logs)
        time.sleep(_PAUSE_S)


def _raise_on_crash_loop(node: Node, logs: Path) -> None:
    for component in node.request("status")["components"]:
        if component["starts"] >= _CRASH_LOOP:
            log = logs / f"{component['name']}.log"
            last = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise ClusterError(f"{component['name']} keeps ending, see {log}: {last}")


def node_ready(api: Api, name: str) -> bool:
    """Does the node say that it takes pods?"""
    found = api.get(f"/api/v1/nodes/{name}")
    conditions = found["status"].get("conditions", []) if found else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def default_account(api: Api) -> bool:
    """Is there a `default` ServiceAccount? Without it every pod is refused."""
    return api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


def policy_in_force(api: Api) -> bool:
    """Does a dry run show the pods' environment?"""
    try:
        return policy.in_force(api.call("POST", "/api/v1/namespaces/default/pods?dryRun=All", policy.probe_pod()))
    except urllib.error.HTTPError as error:
        text = reason(error)
        if "expression" in text:  # the policy itself doesn't work; waiting won't mend it
            raise ClusterError(f"The environment policy fails: {text}") from error
        return False
    except OSError:
        return False


def gpus_allocatable(api: Api, name: str, count: int) -> bool:
    """Does the node offer `count` GPUs?"""
    found = api.get(f"/api/v1/nodes/{name}")
    return found is not None and found["status"].get("allocatable", {}).get("nvidia.com/gpu") == str(count)
