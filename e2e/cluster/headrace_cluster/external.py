"""An existing cluster instead of the embedded one: one context of the user's kubeconfig, copied and checked."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from headrace_cluster.errors import ClusterError
from headrace_cluster.pki import write_private

_FILE_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def _sources() -> list[Path]:
    listed = [Path(word) for word in os.environ.get("KUBECONFIG", "").split(os.pathsep) if word]
    return listed or [Path.home() / ".kube" / "config"]


def _named(config: dict[str, Any], kind: str, name: str, folder: Path) -> dict[str, Any] | None:
    singular = kind.removesuffix("s")
    for entry in config.get(kind) or []:
        if entry["name"] == name:
            values = dict(entry[singular])
            for key in _FILE_KEYS:  # relative paths count from the file that they stand in
                if key in values:
                    values[key] = str(folder / values[key])
            return {"name": name, singular: values}
    return None


def extract(context: str, sources: list[Path]) -> dict[str, Any]:
    """A kubeconfig with that context alone; raises ClusterError naming the contexts there are."""
    known: list[str] = []
    for source in sources:
        if not source.exists():
            continue
        config = yaml.safe_load(source.read_text()) or {}
        known += [entry["name"] for entry in config.get("contexts") or []]
        found = _named(config, "contexts", context, source.parent)
        if found is None:
            continue
        cluster = _named(config, "clusters", found["context"]["cluster"], source.parent)
        user = _named(config, "users", found["context"]["user"], source.parent)
        if cluster is None or user is None:
            raise ClusterError(f"Context {context!r} in {source} names a cluster or user that isn't in that file.")
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [user],
            "contexts": [found],
            "current-context": context,
        }
    places = ", ".join(map(str, sources))
    raise ClusterError(f"No context {context!r} in {places}; there are: {', '.join(known) or 'none'}.")


def attach(context: str, kubeconfig: Path, kubectl: Path) -> None:
    """Write the context to `kubeconfig` and check that its API server answers within 10 s."""
    content = yaml.safe_dump(extract(context, _sources()), sort_keys=False)
    kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    write_private(kubeconfig, content.encode())
    command = [str(kubectl), f"--kubeconfig={kubeconfig}", "--request-timeout=10s", "get", "--raw", "/readyz"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        kubeconfig.unlink()
        kubeconfig.parent.rmdir()
        raise ClusterError(f"The cluster of context {context!r} doesn't answer: {done.stderr.strip()}")


def installed_kubectl() -> Path | None:
    """The kubectl on PATH."""
    found = shutil.which("kubectl")
    return Path(found) if found else None
