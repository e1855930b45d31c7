"""Can this machine host a cluster? One sentence says what is missing."""

import ctypes.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace_cluster import cgroups
from headrace_cluster.errors import ClusterError

# Debian package -> a program of it, an absolute path in it, or lib:NAME for a shared library.
PACKAGES: dict[str, str] = {
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
    "socat": "socat",
    "ethtool": "ethtool",
    "iproute2": "ip",
    "busybox-static": "busybox",
    "libibverbs1": "lib:ibverbs",
    "librdmacm1": "lib:rdmacm",
}
NODE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Kernel features, each tried for real in namespaces that vanish with the trial.
_TRIALS: tuple[tuple[str, Sequence[str]], ...] = (
    ("network, mount and PID namespaces", ("true",)),
    ("veth network devices", ("ip", "link", "add", "hrtrial0", "type", "veth", "peer", "name", "hrtrial1")),
    ("bridge network devices", ("ip", "link", "add", "hrtrial2", "type", "bridge")),
    ("nftables", ("nft", "add", "table", "ip", "hrtrial")),
    ("br_netfilter (modprobe br_netfilter)", ("test", "-e", "/proc/sys/net/bridge/bridge-nf-call-iptables")),
)


def _present(witness: str) -> bool:
    if witness.startswith("lib:"):
        return ctypes.util.find_library(witness.removeprefix("lib:")) is not None
    if witness.startswith("/"):
        return Path(witness).exists()
    return shutil.which(witness, path=NODE_PATH) is not None


def missing_packages(present: Callable[[str], bool] = _present) -> list[str]:
    """Debian packages of which this machine lacks the witness."""
    return [package for package, witness in PACKAGES.items() if not present(witness)]


def missing_sentence(packages: Sequence[str]) -> str:
    """What to say about missing packages."""
    names = " ".join(packages)
    return (
        f"This machine lacks {', '.join(packages)}: install with `apt-get install -y --no-install-recommends {names}` "
        "or run `headrace-cluster up --install`."
    )


def install(packages: Sequence[str]) -> None:
    """Install Debian packages with apt; raises ClusterError with apt's last line."""
    if shutil.which("apt-get") is None:
        raise ClusterError(f"--install needs apt-get; install the equivalents of {', '.join(packages)} by hand.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
    ):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise ClusterError(f"`{' '.join(command)}` failed: {' '.join(last)}")


def program(name: str) -> str:
    """The path of a program that a package of PACKAGES brings; raises ClusterError without it."""
    found = shutil.which(name, path=NODE_PATH)
    if found is None:
        raise ClusterError(missing_sentence(missing_packages() or [name]))
    return found


def require_root() -> None:
    """Raise ClusterError unless this is root on Linux."""
    if sys.platform != "linux":
        raise ClusterError("The embedded cluster needs Linux; use --kube-context NAME with an existing cluster.")
    if os.geteuid() != 0:
        raise ClusterError("The embedded cluster needs root: run it with sudo, or use --kube-context NAME.")


def require_host(state: Path) -> None:
    """Raise ClusterError with one sentence unless this machine can host a cluster with its state below `state`."""
    require_root()
    if packages := missing_packages():
        raise ClusterError(missing_sentence(packages))
    cgroups.detect()
    if modprobe := shutil.which("modprobe", path=NODE_PATH):  # without it these are built in, or the trials say so
        subprocess.run([modprobe, "-a", "br_netfilter", "overlay", "nf_tables"], capture_output=True, check=False)
    for feature, command in _TRIALS:
        _try(feature, command)
    _try_overlay(state)


def _try(feature: str, command: Sequence[str]) -> None:
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", *command]
    done = subprocess.run(isolated, capture_output=True, text=True, check=False, env={"PATH": NODE_PATH})
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ClusterError(f"This machine's kernel or container doesn't offer {feature} ({reason}).")


def _try_overlay(state: Path) -> None:
    state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=state, prefix=".overlay-") as folder:
        base = Path(folder)
        for part in ("lower", "upper", "work", "merged"):
            (base / part).mkdir()
        options = f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work"
        _try(
            f"overlayfs on {state} (set XDG_STATE_HOME to a folder on ext4 or xfs)",
            ("mount", "-t", "overlay", "overlay", "-o", options, f"{base}/merged"),
        )
