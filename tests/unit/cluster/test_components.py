from pathlib import Path

import pytest

from headrace_cluster import components, settings
from headrace_cluster.addresses import Plan
from headrace_cluster.layout import Layout

BINARIES = {
    name: Path("/cache") / name
    for name in (
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "prometheus",
    )
}
LAYOUT = Layout("demo", Path("/state/demo"))


def _table(index: int = 0, *, prometheus: bool = False) -> dict[str, tuple[str, ...]]:
    table = components.table(LAYOUT, Plan(index), BINARIES, node_labels={"b": "2", "a": "1"}, prometheus=prometheus)
    return {component.name: component.argv for component in table}


def test_the_foundation_starts_first() -> None:
    assert set(list(_table())[:3]) == set(components.FOUNDATION)


def test_prometheus_runs_only_when_asked_for() -> None:
    assert "prometheus" not in _table()
    argv = _table(prometheus=True)["prometheus"]
    assert "--web.enable-lifecycle" in argv
    assert "--config.file=/state/demo/conf/prometheus.yaml" in argv


@pytest.mark.parametrize("index", [0, 3])
def test_addresses_of_the_plan_reach_every_component(index: int) -> None:
    table, plan = _table(index), Plan(index)
    assert f"--advertise-address={plan.node_ip}" in table["apiserver"]
    assert f"--service-cluster-ip-range={plan.services}" in table["apiserver"]
    assert f"--node-ip={plan.node_ip}" in table["kubelet"]
    assert f"--listen={plan.bridge_ip}" in table["dns"]
    assert settings.kubelet(LAYOUT, plan)["clusterDNS"] == [str(plan.bridge_ip)]
    assert settings.kube_proxy(LAYOUT, plan)["clusterCIDR"] == str(plan.pods)
    assert str(plan.pods) in str(settings.cni(plan))


def test_node_labels_are_passed_in_a_stable_order() -> None:
    assert "--node-labels=a=1,b=2" in _table()["kubelet"]


def test_the_kubelet_keeps_its_pods_inside_the_clusters_cgroup() -> None:
    configuration = settings.kubelet(LAYOUT, Plan(0))
    assert configuration["cgroupRoot"] == "/headrace-cluster-demo"
    assert configuration["kubeletCgroups"] == "/headrace-cluster-demo/system"


def test_kube_proxy_leaves_the_machines_connection_tracking_alone() -> None:
    conntrack = settings.kube_proxy(LAYOUT, Plan(0))["conntrack"]
    assert conntrack == {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}


def test_everything_written_lies_below_the_clusters_state() -> None:
    paths = [word.partition("=")[2] for argv in _table(prometheus=True).values() for word in argv if "=/" in word]
    assert paths
    assert all(path.startswith("/state/demo/") for path in paths)
