"""Where things lie on disk: the cache that outlives clusters and the state of one cluster."""

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from headrace_cluster.errors import ClusterError

# The control socket's path must fit sockaddr_un (108 bytes with the ending zero).
_LONGEST_SOCKET_PATH = 107
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return (Path(value) if value.startswith("/") else Path.home() / default) / "headrace"


def cache_dir() -> Path:
    """The user's cache: built binaries and, below `models`, the models that pods may read."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def clusters_dir() -> Path:
    """The folder that holds one folder per cluster."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "clusters"


@dataclass(frozen=True, slots=True)
class Layout:
    """The names and paths that belong to the cluster `name`; everything below `state` goes away with `down`."""

    name: str
    state: Path

    @property
    def scope(self) -> str:
        """Name of the cluster's cgroup and of its temporary things on the machine."""
        return f"headrace-cluster-{self.name}"

    @property
    def host_link(self) -> str:
        """The host's end of the veth pair; interface names hold 15 characters at most, so the name is hashed."""
        return f"hr{zlib.crc32(self.name.encode()):08x}h"

    @property
    def node_link(self) -> str:
        """The node's end of the veth pair."""
        return f"hr{zlib.crc32(self.name.encode()):08x}n"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def record(self) -> Path:
        """What `up` decided (addresses, options), as JSON."""
        return self.state / "cluster.json"

    @property
    def control(self) -> Path:
        """The supervisor's socket."""
        return self.state / "control.sock"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def conf(self) -> Path:
        """Generated configuration files."""
        return self.state / "conf"

    @property
    def logs(self) -> Path:
        """One log per component; pods' logs below `pods`."""
        return self.state / "log"

    @property
    def kubelet(self) -> Path:
        """What the node sees as /var/lib/kubelet."""
        return self.state / "kubelet"


def layout(name: str) -> Layout:
    """The layout of the cluster `name`; raises ClusterError for a name or a place that can't work."""
    if not _NAME.fullmatch(name):
        raise ClusterError(
            f"--name {name!r}: use 1 to 20 lower-case letters, digits and '-', starting with a letter, e.g. 'demo'."
        )
    found = Layout(name=name, state=clusters_dir() / name)
    if len(str(found.control)) > _LONGEST_SOCKET_PATH:
        raise ClusterError(
            f"The state folder {found.state} has too long a path for a socket: set XDG_STATE_HOME to a shorter one."
        )
    if found.state.is_relative_to("/run") or found.state.is_relative_to("/var/log"):
        raise ClusterError(
            f"The state folder {found.state} lies where the node has its own files: set XDG_STATE_HOME elsewhere."
        )
    return found
