"""The node's view of the file system: private /run, /var/log, kubelet and CNI folders, and private system settings.

All of it exists in the node's own mount namespace and vanishes with it.
"""

import subprocess
from pathlib import Path

# What kubelet and kube-proxy insist on. They are settings of the whole machine, so that writing them would change
# it, and containers often may not: the node sees files with these values instead.
_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def prepare(*, logs: Path, kubelet: Path) -> None:
    """Mount everything; called once by process 1 before any component."""
    _mount("--make-rprivate", "/")
    _mount("--make-rshared", "/")  # pods' volumes with mount propagation need a shared root, shared with nobody outside
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    (kubelet / "settings").mkdir(parents=True)
    # Empty mount points that stay on the machine: removing them could pull them from under another cluster's node.
    for target in (Path("/var/lib/kubelet"), Path("/var/lib/cni")):
        target.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib/cni")
    _mount("--bind", logs, "/var/log")
    _private_settings(kubelet / "settings")
    _mount("--bind", kubelet, "/var/lib/kubelet")
    _mount("--make-shared", "/var/lib/kubelet")


def _private_settings(folder: Path) -> None:
    for name, wanted in _SETTINGS.items():
        setting = Path("/proc/sys") / name
        if setting.exists() and setting.read_text().strip() != wanted:
            stand_in = folder / name.replace("/", ".")
            stand_in.write_text(wanted + "\n")
            _mount("--bind", stand_in, setting)
