"""The table of components: what runs in the node, with which flags."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_cluster import prometheus as prom
from headrace_cluster.addresses import Plan
from headrace_cluster.layout import Layout

FOUNDATION = ("containerd", "etcd", "apiserver")


@dataclass(frozen=True, slots=True)
class Component:
    """A process of the node. Those in FOUNDATION start first, the others once the API server is ready."""

    name: str
    argv: tuple[str, ...]


def _component(name: str, program: Path | str, flags: Mapping[str, object], *arguments: str) -> Component:
    return Component(name, (str(program), *arguments, *(f"--{flag}={value}" for flag, value in flags.items())))


def _etcd(binary: Path, layout: Layout) -> Component:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    flags = {
        "name": "node",
        "data-dir": layout.state / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"node={peer}",
        "unsafe-no-fsync": "true",  # the data dies with the cluster; the disk is shared with everything else
        "log-level": "warn",
    }
    return _component("etcd", binary, flags)


def _apiserver(binary: Path, layout: Layout, plan: Plan) -> Component:
    pki = layout.pki
    flags = {
        "etcd-servers": "http://127.0.0.1:2379",
        "bind-address": "0.0.0.0",  # noqa: S104 - the node's own network namespace
        "advertise-address": plan.node_ip,
        "secure-port": 6443,
        "service-cluster-ip-range": plan.services,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet.crt",
        "kubelet-client-key": pki / "apiserver-kubelet.key",
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": pki / "service-accounts.pub",
        "service-account-signing-key-file": pki / "service-accounts.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy.crt",
        "proxy-client-key-file": pki / "front-proxy.key",
        "profiling": "false",
    }
    return _component("apiserver", binary, flags)


def _client_flags(kubeconfig: Path) -> dict[str, object]:
    return {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
        "profiling": "false",
    }


def _controller_manager(binary: Path, layout: Layout) -> Component:
    pki = layout.pki
    flags = {
        **_client_flags(pki / "controller-manager.kubeconfig"),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": pki / "service-accounts.key",
        "root-ca-file": pki / "ca.crt",
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "horizontal-pod-autoscaler-sync-period": "5s",
        # With the default rate limit (20 a second) the `default` ServiceAccount comes 5 s late.
        "kube-api-qps": 500,
        "kube-api-burst": 1000,
    }
    return _component("controller-manager", binary, flags)


def _kubelet(binary: Path, layout: Layout, plan: Plan, node_labels: Mapping[str, str]) -> Component:
    flags: dict[str, object] = {
        "config": layout.conf / "kubelet.yaml",
        "kubeconfig": layout.pki / "kubelet.kubeconfig",
        "hostname-override": layout.name,
        "node-ip": plan.node_ip,
        "cert-dir": layout.pki / "kubelet",
    }
    if node_labels:
        flags["node-labels"] = ",".join(f"{key}={value}" for key, value in sorted(node_labels.items()))
    return _component("kubelet", binary, flags)


def _dns(layout: Layout, plan: Plan) -> Component:
    flags = {
        "listen": plan.bridge_ip,
        "api": plan.api_url,
        "ca": layout.pki / "ca.crt",
        "certificate": layout.pki / "dns.crt",
        "key": layout.pki / "dns.key",
    }
    return _component("dns", sys.executable, flags, "-m", "headrace_cluster.dns")


def _prometheus(binary: Path, layout: Layout, plan: Plan) -> Component:
    flags = {
        "config.file": layout.conf / "prometheus.yaml",
        "storage.tsdb.path": layout.state / "prometheus",
        "web.listen-address": f"0.0.0.0:{prom.PORT}",
        "web.external-url": f"http://{plan.node_ip}:{prom.PORT}",
        "web.enable-lifecycle": "",
        "log.level": "warn",
    }
    argv = _component("prometheus", binary, flags).argv
    # kingpin's switches take no value
    return Component("prometheus", tuple(word.removesuffix("=") for word in argv))


def table(
    layout: Layout, plan: Plan, binaries: Mapping[str, Path], *, node_labels: Mapping[str, str], prometheus: bool
) -> Sequence[Component]:
    """All components in the order in which they start; `binaries` maps a tool's name to its file."""
    scheduler = _client_flags(layout.pki / "scheduler.kubeconfig")
    components = [
        Component("containerd", ("containerd", "--config", str(layout.conf / "containerd.toml"))),
        _etcd(binaries["etcd"], layout),
        _apiserver(binaries["kube-apiserver"], layout, plan),
        _kubelet(binaries["kubelet"], layout, plan, node_labels),
        _controller_manager(binaries["kube-controller-manager"], layout),
        _component("scheduler", binaries["kube-scheduler"], scheduler),
        _component("proxy", binaries["kube-proxy"], {"config": layout.conf / "kube-proxy.yaml"}),
        _dns(layout, plan),
    ]
    if prometheus:
        components.append(_prometheus(binaries["prometheus"], layout, plan))
    return components
