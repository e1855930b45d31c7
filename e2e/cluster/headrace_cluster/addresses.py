"""The address plan: which ranges a cluster uses, chosen so that clusters and the machine's own networks don't meet."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from headrace_cluster.errors import ClusterError

# A /20 holds 4094 pods or services, far more than one node runs, and leaves room for 16 clusters in a /16.
_BLOCK = 20
MAX_CLUSTERS = 16
_PODS = IPv4Network("10.88.0.0/16")
_LINKS = IPv4Network("10.89.0.0/16")
_SERVICES = IPv4Network("10.96.0.0/16")


@dataclass(frozen=True, slots=True)
class Plan:
    """Addresses of the cluster with this index (0 to MAX_CLUSTERS - 1)."""

    index: int

    @property
    def link(self) -> IPv4Network:
        """The /30 between the machine and the node."""
        return list(_LINKS.subnets(new_prefix=30))[self.index]

    @property
    def pods(self) -> IPv4Network:
        """The pods' range."""
        return list(_PODS.subnets(new_prefix=_BLOCK))[self.index]

    @property
    def services(self) -> IPv4Network:
        """The services' range."""
        return list(_SERVICES.subnets(new_prefix=_BLOCK))[self.index]

    @property
    def host_ip(self) -> IPv4Address:
        """The machine as pods see it."""
        return self.link[1]

    @property
    def node_ip(self) -> IPv4Address:
        """The node as the machine sees it."""
        return self.link[2]

    @property
    def bridge_ip(self) -> IPv4Address:
        """The pods' gateway; the cluster's name server listens here too."""
        return self.pods[1]

    @property
    def first_pod_ip(self) -> IPv4Address:
        """Pods count from here; the addresses below are the bridge's."""
        return self.pods[16]

    @property
    def kubernetes_ip(self) -> IPv4Address:
        """The `kubernetes` service: by Kubernetes' own rule the first address of the range."""
        return self.services[1]

    @property
    def api_url(self) -> str:
        """The API server's URL, the same from the machine and from pods."""
        return f"https://{self.node_ip}:6443"

    @property
    def ranges(self) -> tuple[IPv4Network, IPv4Network, IPv4Network]:
        """Everything that the plan occupies."""
        return self.link, self.pods, self.services


def choose(taken: Iterable[IPv4Network]) -> Plan:
    """The first plan that overlaps none of the `taken` networks (the machine's routes), or ClusterError."""
    networks = list(taken)
    for index in range(MAX_CLUSTERS):
        plan = Plan(index)
        if not any(own.overlaps(other) for own in plan.ranges for other in networks):
            return plan
    raise ClusterError(
        f"No free addresses: all {MAX_CLUSTERS} blocks of {_PODS}, {_LINKS} and {_SERVICES} overlap routes of this "
        "machine (see `ip route`); take a cluster down."
    )
