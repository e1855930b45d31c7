"""Process 1 of the node: prepares the mount namespace, starts components, starts again what ends, reaps orphans.

It runs in network, mount, PID namespaces of its own; when it is killed, the kernel ends everything in them. It answers
one JSON request per connection on a Unix socket:
  {"op": "start", "name": ..., "argv": [...]}   {"op": "stop" | "restart", "name": ...}   {"op": "status"}
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace_cluster import mounts

# A component that ends is started again after this pause, so that a crash loop doesn't take a whole core.
_PAUSE_S = 1.0
# The API server waits for open watches on SIGTERM; tests that restart it want it gone.
_TERM_PATIENCE_S = 3.0


@dataclass(slots=True)
class Component:
    """A running or ended component."""

    name: str
    argv: list[str]
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    starts: int = 0
    started_at_s: float = 0.0
    due_at_s: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Keeps the wanted components running; single-threaded, so that there is one order of events."""

    logs: Path
    components: dict[str, Component] = field(default_factory=dict)

    def launch(self, component: Component) -> None:
        """Start the component with its output appended to its log."""
        with (self.logs / f"{component.name}.log").open("ab") as log:
            component.process = subprocess.Popen(
                component.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        component.starts += 1
        component.started_at_s = time.perf_counter()

    def end(self, component: Component) -> None:
        """SIGTERM, then SIGKILL for the component's own process; a runtime's containers live on."""
        process = component.process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_TERM_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        component.process = None

    def reap(self) -> None:
        """Collect ended children, ours and adopted orphans; plan the restart of components."""
        for component in self.components.values():
            if component.process is not None and component.process.poll() is not None:
                component.process = None
                component.due_at_s = time.perf_counter() + _PAUSE_S
        running = {component.process.pid for component in self.components.values() if component.process}
        while True:
            try:
                # WNOWAIT leaves a component that ended just now to its Popen object.
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in running:
                return
            os.waitpid(ended.si_pid, 0)

    def tick(self) -> None:
        """Reap, and start what is due."""
        self.reap()
        for component in self.components.values():
            if component.wanted and component.process is None and time.perf_counter() >= component.due_at_s:
                self.launch(component)

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks; returns the answer."""
        operation = request.get("op")
        if operation == "status":
            return {"components": [_describe(component) for component in self.components.values()]}
        name = str(request.get("name"))
        if operation == "start" and "argv" in request:
            self.components[name] = Component(name, list(request["argv"]))
            self.launch(self.components[name])
            return {}
        component = self.components.get(name)
        if component is None:
            return {"error": f"no component {name!r}; there are: {', '.join(self.components)}"}
        component.wanted = operation in {"start", "restart"}
        if operation in {"stop", "restart"}:
            self.end(component)
        if component.wanted and component.process is None:
            self.launch(component)
        return {}

    def serve(self, listener: socket.socket) -> None:
        """Answer requests until killed."""
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(_PAUSE_S):
                    if key.fileobj is woken:
                        woken.recv(4096)
                    else:
                        self.answer(listener)
                self.tick()

    def answer(self, listener: socket.socket) -> None:
        """One connection: a line of JSON in, a line of JSON out; a broken client never stops the node."""
        connection, _ = listener.accept()
        with connection:
            try:
                connection.settimeout(2.0)
                with connection.makefile("rb") as lines:
                    line = lines.readline()
                if not line:  # it only wanted to know who listens
                    return
                answer = self.handle(json.loads(line))
            except (ValueError, KeyError, OSError) as error:
                answer = {"error": str(error)}
            try:
                connection.sendall(json.dumps(answer).encode() + b"\n")
            except OSError as error:
                print(f"a client left before its answer: {error}", flush=True)


def _describe(component: Component) -> dict[str, Any]:
    process = component.process
    return {
        "name": component.name,
        "running": process is not None,
        "pid": process.pid if process else None,
        "starts": component.starts,
        "age_s": time.perf_counter() - component.started_at_s,
        "pss_bytes": _pss_bytes(process.pid) if process else 0,
    }


def _pss_bytes(process: int) -> int:
    """Proportional set size: memory with shared pages divided among their users."""
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it ended while we looked
    return 0


def main() -> None:
    """Entry point: supervisor.py CONTROL_SOCKET LOG_FOLDER KUBELET_FOLDER."""
    control, logs, kubelet = (Path(argument) for argument in sys.argv[1:4])
    mounts.prepare(logs=logs, kubelet=kubelet)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(control))
    control.chmod(0o600)
    listener.listen()
    Supervisor(logs).serve(listener)


if __name__ == "__main__":
    main()
