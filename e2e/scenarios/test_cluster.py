"""The embedded Kubernetes itself: what it offers to pods, and that nothing of it stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace_cluster import Cluster, ClusterError
from headrace_cluster.cluster import prepare_host
from headrace_cluster.report import Report

pytestmark = pytest.mark.cluster
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
LOCKED = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SERVER = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=30000)"


@pytest.fixture(autouse=True, scope="module")
def _host() -> None:
    try:
        prepare_host(Report(quiet=True), install=False)
    except ClusterError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A cluster of this file's own, with everything that `up` can add."""
    with Cluster("own").up(prometheus=True, fake_gpus=2) as cluster:
        yield cluster


def _pod(name: str, command: list[str], **more: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "headrace/engine:dev", "command": command, "securityContext": LOCKED}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": more.pop("labels", {"app": name})},
        "spec": {
            "securityContext": POD_SECURITY,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [{**container, **more}],
        },
    }


def _apply(cluster: Cluster, *manifests: dict[str, Any]) -> None:
    cluster.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    )


def _eventually(check: Callable[[], bool], what: str, patience_s: float = 60.0) -> None:
    deadline = time.perf_counter() + patience_s
    while not check():
        assert time.perf_counter() < deadline, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.2)


def _serve(cluster: Cluster) -> str:
    """A served pod behind a Service and a headless one; returns the Service's address."""
    labels = {"app": "web", "headrace.dev/role": "decode", "headrace.dev/service": "chat"}
    ports = [{"containerPort": 30000}, {"containerPort": 8998}]
    probe = {"httpGet": {"path": "/hostname", "port": 30000}, "periodSeconds": 1}
    pod = _pod("web", ["python", "-c", SERVER], labels=labels, ports=ports, readinessProbe=probe, workingDir="/etc")
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-vip"}}
    service["spec"] = {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 30000}]}
    headless = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web-pods"}}
    headless["spec"] = {"selector": {"app": "web"}, "clusterIP": "None", "ports": [{"port": 30000}]}
    _apply(cluster, pod, service, headless)
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    return cluster.kubectl("get", "service", "web-vip", "-o", "jsonpath={.spec.clusterIP}")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def _answers(url: str, expected: str) -> bool:
    try:
        return expected in _get(url)
    except OSError:
        return False


def _run(cluster: Cluster, name: str, script: str) -> str:
    """The log of a pod that runs a Python script to its successful end."""
    pod = _pod(name, ["python", "-c", script])
    pod["spec"]["restartPolicy"] = "Never"
    _apply(cluster, pod)
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{name}", "--timeout=60s")
    return cluster.kubectl("logs", name)


def test_a_pod_runs_the_projects_python_without_root(own: Cluster) -> None:
    script = "import os, sys, kopf, headrace_cluster; print(os.getuid(), sys.prefix, headrace_cluster.__file__)"
    user, prefix, source = _run(own, "python", script).split()
    assert (user, prefix) == ("65532", sys.prefix)
    assert source.endswith("headrace_cluster/__init__.py")


def test_the_projects_programs_are_on_the_path_and_its_folders_are_read_only(own: Cluster) -> None:
    script = (
        "import os, shutil, sys\n"
        "print(*(shutil.which(name) for name in ('smg', 'headrace', 'headrace-engine', 'headrace-standin')))\n"
        f"folders = ('/usr', sys.prefix, {str(own.models)!r})\n"
        "print(*(bool(os.statvfs(folder).f_flag & os.ST_RDONLY) for folder in folders))\n"
    )
    programs, read_only = _run(own, "paths", script).splitlines()
    assert all(program.startswith(f"{sys.prefix}/bin/") for program in programs.split())
    assert read_only == "True True True"


def test_services_answer_and_names_resolve(own: Cluster) -> None:
    address = _serve(own)
    _eventually(lambda: _answers(f"http://{address}/hostname", "web"), "the service's address to answer from the host")
    script = (
        "import socket, urllib.request\n"
        "print(urllib.request.urlopen('http://web-vip/hostname', timeout=5).read().decode().strip())\n"
        "print(socket.gethostbyname('web-vip.default.svc.cluster.local'), socket.gethostbyname('kubernetes.default'))\n"
        "print(socket.gethostbyname('web-pods'))\n"
    )
    name, addresses, pod_address = _run(own, "client", script).splitlines()
    assert name == "web"
    assert addresses.split() == [address, str(own.plan.kubernetes_ip)]
    assert pod_address == own.kubectl("get", "pod", "web", "-o", "jsonpath={.status.podIP}")


def test_prometheus_finds_pods_by_their_role(own: Cluster) -> None:
    _serve(own)

    def labels() -> list[dict[str, str]]:
        targets = json.loads(_get(f"{own.prometheus_url}/api/v1/targets"))["data"]["activeTargets"]
        return [target["labels"] for target in targets]

    _eventually(lambda: bool(labels()), "a target")
    (found,) = labels()  # one, although the pod has two ports
    assert found["instance"].endswith(":30000")
    expected = {"pod": "web", "namespace": "default", "role": "decode", "service": "chat"}
    assert expected.items() <= found.items()


def test_the_node_offers_the_gpus_asked_for(own: Cluster) -> None:
    path = "jsonpath={.status.allocatable['nvidia\\.com/gpu']}"
    assert own.kubectl("get", "node", own.name, "-o", path) == "2"
    assert own.kubectl("get", "nodes", "-l", "headrace.dev/embedded=true", "-o", "name").strip() == f"node/{own.name}"


def test_init_containers_get_the_environment_and_other_images_do_not(own: Cluster) -> None:
    pod = _pod("mixed", ["true"])
    pod["spec"]["initContainers"] = [{"name": "first", "image": "docker.io/headrace/operator:dev"}]
    pod["spec"]["containers"].append({"name": "other", "image": "example.org/other:1"})
    shown = own.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod))
    spec = json.loads(shown)["spec"]
    mounted = {c["name"]: len(c.get("volumeMounts", [])) for c in [*spec["containers"], *spec["initContainers"]]}
    assert mounted["main"] == mounted["first"] > 3
    assert mounted["other"] == 0


@pytest.mark.parametrize("component", ["apiserver", "containerd", "kubelet"])
def test_pods_outlive_the_restart_of_a_component(own: Cluster, component: str) -> None:
    address = _serve(own)
    before = own.kubectl(
        "get", "pod", "web", "-o", "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}"
    )
    own.restart(component)
    _eventually(lambda: _answers(f"http://{address}/hostname", "web"), "the service to answer")
    after = own.kubectl(
        "get", "pod", "web", "-o", "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}"
    )
    assert after == before


def test_an_unknown_component_is_answered_with_those_there_are(own: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no component 'kubelte'.*kubelet"):
        own.restart("kubelte")


# ---- coming and going


def _namespaces(scope: str) -> set[str]:
    """Network, mount and PID namespaces of processes outside of other clusters, whose life is not ours to judge."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and _foreign_cluster((process / "cgroup").read_text(), scope) is False:
                found |= {str((process / "ns" / kind).readlink()) for kind in ("net", "mnt", "pid")}
        except OSError:
            continue
    return found


def _foreign_cluster(text: str, scope: str) -> bool:
    return "headrace-cluster-" in text.replace(scope, "")


def _output(*command: str) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def _inventory(cluster: Cluster) -> dict[str, set[str]]:
    scope = cluster.layout.scope
    state = str(cluster.layout.state)
    command_lines = set()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"{state}/" in words:
            command_lines.add(words)
    return {
        "processes": command_lines,
        "namespaces": _namespaces(scope),
        "mounts": {line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "cgroups": {str(path) for path in Path("/sys/fs/cgroup").rglob(f"*{scope}*")},
        "links": {line.split()[0].split("@")[0] for line in _output("ip", "-brief", "link")},
        "routes": _output("ip", "route", "show", "table", "all"),
        "rules": _output("ip", "rule") | _output("nft", "list", "ruleset"),
        "state": {str(path) for path in cluster.layout.state.parent.glob(f"{cluster.name}*")},
    }


def _added(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    return {kind: after[kind] - before[kind] for kind in before if after[kind] - before[kind]}


def test_down_leaves_nothing_behind() -> None:
    cluster = Cluster("passing")
    before = _inventory(cluster)
    cluster.up()
    _serve(cluster)
    meanwhile = _added(before, _inventory(cluster))
    assert {"processes", "namespaces", "cgroups", "links", "routes", "state"} <= set(meanwhile)
    cluster.down()
    assert _added(before, _inventory(cluster)) == {}


def test_up_is_idempotent_and_down_without_a_cluster_is_harmless(own: Cluster) -> None:
    process = own.component_status()[0]["pid"]
    own.up()
    assert own.component_status()[0]["pid"] == process
    Cluster("never-was").down()


@pytest.mark.full
@pytest.mark.parametrize("victim", ["node", "supervisor", "up"])
def test_what_a_killed_run_left_is_cleared_by_the_next_up(victim: str) -> None:
    cluster = Cluster("killed")
    before = _inventory(cluster)
    if victim == "up":
        script = "from headrace_cluster import Cluster; Cluster('killed').up()"
        starting = subprocess.Popen([sys.executable, "-c", script])
        _eventually(cluster._node.running, "the node's first process")
        starting.kill()
        starting.wait()
        assert _inventory(cluster)["processes"]
    else:
        cluster.up()
        inner = cluster._node.process()
        parent = int(Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill({"node": parent, "supervisor": inner}[victim], signal.SIGKILL)
    again = Cluster("killed").up()
    assert "killed" in again.kubectl("get", "nodes", "-o", "name")
    again.down()
    assert _added(before, _inventory(again)) == {}


def test_two_clusters_live_side_by_side(own: Cluster) -> None:
    own_address = _serve(own)
    with Cluster("beside").up() as beside:
        assert beside.plan.index != own.plan.index
        beside_address = _serve(beside)
        assert beside_address != own_address
        _eventually(lambda: _answers(f"http://{beside_address}/hostname", "web"), "the new cluster to answer")
        assert _answers(f"http://{own_address}/hostname", "web")
    assert _answers(f"http://{own_address}/hostname", "web")
    _serve(own)


def test_an_existing_cluster_is_used_by_its_context(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(own.kubeconfig))
    with Cluster("borrowed").up(kube_context=own.name) as borrowed:
        assert own.name in borrowed.kubectl("get", "nodes", "-o", "name")
    assert not borrowed.kubeconfig.exists()
    assert own.running()
