"""The node's network: a veth pair to the machine, routes to pods and services, and the pods' bridge."""

import json
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path

from headrace_cluster.addresses import Plan
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout

BRIDGE = "cni0"


def _ip(*arguments: object, namespace_of: int | None = None) -> str:
    inside: Sequence[str] = () if namespace_of is None else ("nsenter", f"--net=/proc/{namespace_of}/ns/net", "--")
    command = [*inside, "ip", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout


def routed_networks() -> list[IPv4Network]:
    """The networks that this machine already routes, default routes apart."""
    routes = json.loads(_ip("-json", "-4", "route", "show", "table", "all"))
    words = {str(route.get("dst", "default")) for route in routes}
    return [IPv4Network(word, strict=False) for word in words if word[:1].isdigit() and not word.startswith("0.0.0.0/")]


def connect(layout: Layout, plan: Plan, process: int) -> None:
    """Wire the network namespace of `process` to the machine; both directions routed, nothing masqueraded."""
    host, node = layout.host_link, layout.node_link
    _ip("link", "add", host, "type", "veth", "peer", "name", node, "netns", process)
    _ip("addr", "add", f"{plan.host_ip}/{plan.link.prefixlen}", "dev", host)
    _ip("link", "set", host, "up")
    _ip("link", "set", "lo", "up", namespace_of=process)
    _ip("addr", "add", f"{plan.node_ip}/{plan.link.prefixlen}", "dev", node, namespace_of=process)
    _ip("link", "set", node, "up", namespace_of=process)
    _ip("link", "add", BRIDGE, "type", "bridge", namespace_of=process)
    _ip("addr", "add", f"{plan.bridge_ip}/{plan.pods.prefixlen}", "dev", BRIDGE, namespace_of=process)
    _ip("link", "set", BRIDGE, "up", namespace_of=process)
    # Processes of the node reach services too: without a route the kernel gives up before kube-proxy's rules apply.
    _ip("route", "add", plan.services, "dev", BRIDGE, namespace_of=process)
    for target in (plan.pods, plan.services):
        _ip("route", "add", target, "via", plan.node_ip, "dev", host)
    _forward(process)


def _forward(process: int) -> None:
    # Forwarding makes the node a router; bridge-nf lets kube-proxy's rules see traffic between pods of one bridge.
    script = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables"
    subprocess.run(
        ["nsenter", f"--net=/proc/{process}/ns/net", "--", "sh", "-ec", script], check=True, capture_output=True
    )


def disconnect(host_link: str) -> None:
    """Remove the machine's end of the pair and with it the routes; harmless when it is gone."""
    if Path(f"/sys/class/net/{host_link}").exists():
        subprocess.run(["ip", "link", "delete", host_link], capture_output=True, check=False)
