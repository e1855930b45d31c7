"""A real Kubernetes on one machine without a container registry.

`Cluster` is the way in from Python, `headrace-cluster` from a shell. Names are loaded on use: the node's small
processes (supervisor, name server) import this package too and do without the rest's memory.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace_cluster.cluster import Cluster
    from headrace_cluster.errors import ClusterError

__all__ = ["Cluster", "ClusterError"]


def __getattr__(name: str) -> Any:
    if name == "Cluster":
        from headrace_cluster.cluster import Cluster  # noqa: PLC0415

        return Cluster
    if name == "ClusterError":
        from headrace_cluster.errors import ClusterError  # noqa: PLC0415

        return ClusterError
    raise AttributeError(f"module 'headrace_cluster' has no attribute {name!r}")
