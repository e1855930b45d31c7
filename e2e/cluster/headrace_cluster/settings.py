"""Configuration files of the components, as data."""

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from headrace_cluster.addresses import Plan
from headrace_cluster.images import PAUSE
from headrace_cluster.layout import Layout
from headrace_cluster.network import BRIDGE

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"  # inside the node, whose /run is its own
# Snapshotters and exporters that this node doesn't use and that would only log failures.
_UNUSED_PLUGINS = (
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
)


def containerd(layout: Layout) -> str:
    """containerd's TOML. Without restrict_oom_score_adj pods fail where CAP_SYS_RESOURCE is missing."""
    return f"""version = 2
root = "{layout.state}/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = {json.dumps(_UNUSED_PLUGINS)}

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.state}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{layout.conf}/cni"
"""


def cni(plan: Plan) -> Mapping[str, object]:
    """The CNI chain: a bridge without masquerading (the machine routes the pods' range) and host ports."""
    pods = {"subnet": str(plan.pods), "rangeStart": str(plan.first_pod_ip)}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni-ipam",
            "ranges": [[pods]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    port_map = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, port_map]}


def kubelet(layout: Layout, plan: Plan) -> Mapping[str, object]:
    """KubeletConfiguration; thresholds are low because the node shares the machine with everything else on it."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.scope}",
        "kubeletCgroups": f"/{layout.scope}/system",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "address": "0.0.0.0",  # noqa: S104 - the node's own network namespace
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{layout.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "protectKernelDefaults": True,
        "resolvConf": "",
        "clusterDNS": [str(plan.bridge_ip)],
        "clusterDomain": "cluster.local",
        "volumePluginDir": f"{layout.state}/volume-plugins",
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # images come from one import and can't be pulled again
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "10s",
        "maxPods": 100,
        "serializeImagePulls": False,
    }


def kube_proxy(layout: Layout, plan: Plan) -> Mapping[str, object]:
    """KubeProxyConfiguration; zeros leave the machine's connection tracking limits alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": f"{layout.pki}/proxy.kubeconfig"},
        "clusterCIDR": str(plan.pods),
        "hostnameOverride": layout.name,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    }


def write_all(layout: Layout, plan: Plan, prometheus: str | None) -> None:
    """Write every configuration file; `prometheus` is that component's YAML, or None without it."""
    (layout.conf / "cni").mkdir(parents=True)
    files: dict[Path, str] = {
        layout.conf / "containerd.toml": containerd(layout),
        layout.conf / "cni" / "10-pods.conflist": json.dumps(cni(plan)),
        layout.conf / "kubelet.yaml": yaml.safe_dump(dict(kubelet(layout, plan))),
        layout.conf / "kube-proxy.yaml": yaml.safe_dump(dict(kube_proxy(layout, plan))),
    }
    if prometheus is not None:
        files[layout.conf / "prometheus.yaml"] = prometheus
    for path, content in files.items():
        path.write_text(content)
