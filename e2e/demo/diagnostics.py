"""What a person would ask for first after a failure, collected into a folder."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.support.kubectl import Kubectl

LOG_LINES = 2000  # of each container: minutes of an engine, and the whole start of any


def collect(kubectl: Kubectl, folder: Path) -> None:
    """Objects, events, descriptions and logs of the demo's two namespaces. What can't be had is noted in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    for namespace in (kubectl.namespace, "headrace-system"):
        here = kubectl.in_namespace(namespace)
        commands: Mapping[str, tuple[str, ...]] = {
            "objects.yaml": ("get", "infsvc,deployments,pods,services,leases", "-o", "yaml"),
            "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
            "pods.txt": ("describe", "pods"),
        }
        for name, arguments in commands.items():
            _write(here, arguments, folder / f"{namespace}-{name}")
        for pod in _pods(here):
            logs = ("logs", pod, "--all-containers", f"--tail={LOG_LINES}", "--prefix")
            _write(here, logs, folder / f"{namespace}-{pod}.log")
            _write(here, (*logs, "--previous"), folder / f"{namespace}-{pod}.previous.log")


def _pods(kubectl: Kubectl) -> list[str]:
    try:
        return [pod["metadata"]["name"] for pod in kubectl.list("pods")]
    except (subprocess.SubprocessError, OSError):
        return []


def _write(kubectl: Kubectl, arguments: tuple[str, ...], path: Path) -> None:
    try:
        done = kubectl.run(*arguments, check=False)
        path.write_text(done.stdout + (f"\n[stderr] {done.stderr}" if done.stderr else ""))
    except (subprocess.SubprocessError, OSError) as error:
        path.write_text(f"not to be had: {error}")
