"""The cluster's cgroup: made before its first process, used to find and end all of them, removed at the end.

Version 1 has one tree per controller, version 2 a single one; both are driven through plain files ("cgroupfs").
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from headrace_cluster.errors import ClusterError

# The kubelet refuses its cgroup root unless all of these that the machine has are enabled there (runc adds io).
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# SIGKILL of a few hundred processes takes well under a second; a process in uninterruptible sleep may take longer.
_KILL_PATIENCE_S = 15.0


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The mounted cgroup trees: several for version 1, one for version 2."""

    version: int
    roots: tuple[Path, ...]

    def folders(self, scope: str) -> list[Path]:
        """The folder called `scope` in every tree."""
        return [root / scope for root in self.roots]

    def create(self, scope: str) -> list[Path]:
        """Make `scope` with a leaf `system` for the components; returns the files that take a process id."""
        for folder in self.folders(scope):
            for level in (folder, folder / "system"):
                if self.version == 2:  # controllers are handed down level by level, and a leaf holds the processes
                    _hand_down(level.parent)
                level.mkdir(exist_ok=True)
                _copy_cpuset(level)
        return [folder / "system" / "cgroup.procs" for folder in self.folders(scope)]

    def processes(self, scope: str) -> set[int]:
        """Ids of all processes in `scope`, as this namespace counts them."""
        found: set[int] = set()
        for folder in self.folders(scope):
            for procs in folder.rglob("cgroup.procs"):
                try:
                    found.update(int(word) for word in procs.read_text().split())
                except OSError:
                    continue  # the group or its last process vanished while we read
        return found

    def kill(self, scope: str) -> None:
        """SIGKILL every process in `scope` and wait until none is left."""
        deadline = time.perf_counter() + _KILL_PATIENCE_S
        while processes := self.processes(scope):
            for process in processes:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            if time.perf_counter() > deadline:
                raise ClusterError(f"Processes {sorted(processes)} of {scope} don't end; look at them with `ps`.")
            time.sleep(0.02)

    def remove(self, scope: str) -> None:
        """Remove the empty groups of `scope`, deepest first."""
        for folder in self.folders(scope):
            for group in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
                _rmdir(group)
            if folder.exists():
                _rmdir(folder)


def _rmdir(group: Path) -> None:
    # The kernel finishes with a killed process slightly after its id is gone from cgroup.procs: retry EBUSY for 2 s.
    for attempt in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if attempt == 99:
                raise
            time.sleep(0.02)
        else:
            return


def _copy_cpuset(group: Path) -> None:
    """A version 1 cpuset takes no process before its CPUs and memory nodes are named."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own, above = group / name, group.parent / name
        if group.parent.joinpath("cgroup.clone_children").exists() and own.exists() and not own.read_text().strip():
            own.write_text(above.read_text())


def _hand_down(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _V2_CONTROLLERS if name in available)
    try:
        (group / "cgroup.subtree_control").write_text(wanted)
    except OSError as error:
        raise ClusterError(
            f"cgroup v2 controllers can't be handed down from {group} ({error.strerror}): run on the host or in a "
            "container whose root cgroup holds no processes."
        ) from error


def parse(mountinfo: str) -> Cgroups | None:
    """The cgroup trees in the text of /proc/self/mountinfo; None when there is none that limits memory and PIDs."""
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount_point, kind, options = Path(before.split()[4]), after.split()[0], after.split()[2]
        if kind == "cgroup":
            v1[options] = mount_point
        elif kind == "cgroup2":
            v2 = mount_point
    controllers = {word for options in v1 for word in options.split(",")}
    if {"memory", "pids"} <= controllers:
        # A hybrid machine also mounts a version 2 tree without controllers; runc keeps a group per pod there too.
        return Cgroups(1, tuple(sorted({*v1.values(), *([v2] if v2 else [])})))
    return Cgroups(2, (v2,)) if v2 is not None else None


def find() -> Cgroups | None:
    """The machine's cgroup trees, if it has any."""
    mountinfo = Path("/proc/self/mountinfo")
    return parse(mountinfo.read_text()) if mountinfo.exists() else None


def detect() -> Cgroups:
    """The machine's cgroup trees; raises ClusterError when there are none that can be written."""
    found = find()
    if found is None:
        raise ClusterError(
            "No cgroup tree is mounted at /sys/fs/cgroup, so pods can't be limited: mount cgroup2 there."
        )
    for root in found.roots:
        if not os.access(root, os.W_OK) or os.statvfs(root).f_flag & os.ST_RDONLY:
            raise ClusterError(f"The cgroup tree {root} is read-only: run on the host or in a privileged container.")
    return found
