"""The node's life from the outside: start process 1 in new namespaces, talk to it, end it."""

import json
import shutil
import socket
import struct
import subprocess
import sys
import time
from typing import Any

from headrace_cluster import cgroups, network
from headrace_cluster.checks import NODE_PATH
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout

# Process 1 starts in about 0.3 s; a machine busy with other work may take much longer.
_START_PATIENCE_S = 30.0
# The supervisor answers at once, except while it gives a stopping component 3 s.
_ANSWER_PATIENCE_S = 15.0
_ENVIRONMENT = {"PATH": NODE_PATH, "HOME": "/root", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
# Enter the cgroups first, then become the command: no process of the cluster is ever outside of them.
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'


class Node:
    """The machine's handle on one node."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._parent: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start process 1 in network, mount and PID namespaces of its own and wait until it answers."""
        groups = cgroups.detect().create(self._layout.scope)
        self._layout.logs.mkdir(parents=True, exist_ok=True)
        arguments = [self._layout.control, self._layout.logs, self._layout.kubelet]
        supervisor = [sys.executable, "-m", "headrace_cluster.supervisor", *map(str, arguments)]
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *supervisor]
        with (self._layout.logs / "supervisor.log").open("wb") as log:
            self._parent = subprocess.Popen(
                ["/bin/sh", "-c", _ENTER, "sh", *map(str, groups), "--", *unshare],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.perf_counter() + _START_PATIENCE_S
        while not self.running():
            if self._parent.poll() is not None or time.perf_counter() > deadline:
                last = (self._layout.logs / "supervisor.log").read_text().strip().splitlines()[-1:]
                raise ClusterError(f"The node's first process didn't start: {' '.join(last) or 'no output'}")
            time.sleep(0.02)

    def running(self) -> bool:
        """Does the node's process 1 answer?"""
        try:
            self.request("status")
        except (OSError, ClusterError):
            return False
        return True

    def request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask the supervisor; raises OSError when it isn't there and ClusterError with what it says against it."""
        with self._connect() as connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            line = lines.readline()
        if not line:
            raise ClusterError("The node's supervisor hung up; see its log.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ClusterError(f"The node's supervisor says: {answer['error']}.")
        return answer

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_ANSWER_PATIENCE_S)
        try:
            connection.connect(str(self._layout.control))
        except OSError:
            connection.close()
            raise
        return connection

    def process(self) -> int:
        """Process 1's id as this namespace counts it: the kernel tells who listens on the socket."""
        with self._connect() as connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside the node's namespaces and return its output."""
        inside = ["nsenter", "--target", str(self.process()), "--mount", "--net", "--pid", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
        if check and done.returncode:
            raise ClusterError(f"`{' '.join(command)}` failed in the node: {done.stderr.strip()}")
        return done

    def traces(self) -> bool:
        """Is anything of the node there: state on disk or cgroups, living or left by a killed run?"""
        if self._layout.state.exists():
            return True
        trees = cgroups.find()
        return trees is not None and any(folder.exists() for folder in trees.folders(self._layout.scope))

    def clear(self, *, keep_logs: bool = False) -> None:
        """End every process of the node and remove what it had; harmless when there is nothing."""
        trees = cgroups.detect()
        trees.kill(self._layout.scope)
        if self._parent is not None:
            self._parent.wait()
        network.disconnect(self._layout.host_link)
        trees.remove(self._layout.scope)
        _remove_state(self._layout, keep_logs=keep_logs)


def _remove_state(layout: Layout, *, keep_logs: bool) -> None:
    if not layout.state.exists():
        return
    for entry in layout.state.iterdir():
        if keep_logs and entry == layout.logs:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not keep_logs:
        layout.state.rmdir()
