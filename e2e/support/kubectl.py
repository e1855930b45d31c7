"""kubectl as the scenarios use it: JSON in, JSON out, and waiting with a sentence that says what for."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
# A real engine is Ready in 44 s alone and in 71 s beside another, where the stand-in takes 2 s.
PATIENCE = 6 if os.environ.get("HEADRACE_E2E_REAL_ENGINES") else 1
Object = dict[str, Any]


class WaitedInVainError(AssertionError):
    """What was waited for did not come; the message says what was seen last."""


def wait_for(what: str, probe: Callable[[], T | None], timeout_s: float = 60, interval_s: float = 0.5) -> T:
    """The first truthy value of probe; raises WaitedInVainError after timeout_s (more of it with real engines)."""
    timeout_s *= PATIENCE
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = probe()
        except (subprocess.CalledProcessError, OSError, KeyError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(interval_s)
    raise WaitedInVainError(f"waited {timeout_s:g} s for {what}; last seen: {last!r}")


@dataclass(frozen=True)
class Kubectl:
    """One cluster as seen through one kubeconfig, in one namespace."""

    binary: Path
    kubeconfig: Path
    namespace: str = "default"

    def run(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """kubectl with these arguments; output is captured."""
        command = [str(self.binary), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *args]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=check, timeout=120)

    def get(self, kind: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        done = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """All objects of a kind that carry these labels."""
        done = self.run("get", kind, "-o", "json", *(["-l", selector] if selector else []))
        items: list[Object] = json.loads(done.stdout)["items"]
        return items

    def apply(self, manifest: Object | str) -> str:
        """kubectl apply --server-side of one manifest (a dict or YAML text)."""
        text = manifest if isinstance(manifest, str) else yaml.safe_dump(manifest)
        return self.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text).stdout

    def rejected(self, manifest: Object) -> str:
        """The API server's words for refusing this manifest; fails where it is accepted."""
        done = self.run("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(manifest), check=False)
        assert done.returncode != 0, f"accepted although it is wrong: {manifest}"
        return done.stderr

    def patch(self, kind: str, name: str, patch: Object, *, how: str = "merge") -> None:
        """kubectl patch."""
        self.run("patch", kind, name, "--type", how, "-p", json.dumps(patch))

    def delete(self, kind: str, name: str, *extra: str) -> None:
        """kubectl delete, absent objects ignored."""
        self.run("delete", kind, name, "--ignore-not-found", *extra)

    def in_namespace(self, namespace: str) -> "Kubectl":
        """The same cluster, another namespace."""
        return Kubectl(self.binary, self.kubeconfig, namespace)


def condition(obj: Object | None, type_: str) -> Object:
    """A condition of an object's status; empty where it is not set."""
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == type_), {})


CHILD_KINDS = "deployments,services,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"


def ready(kubectl: Kubectl, name: str = "chat", timeout_s: float = 120) -> Object:
    """The InferenceService once it is Ready."""

    def probe() -> Object | None:
        service = kubectl.get("infsvc", name)
        return service if is_true(service, "Ready") else None

    return wait_for(f"InferenceService {name} to be Ready", probe, timeout_s=timeout_s)


def is_true(obj: Object | None, type_: str) -> bool:
    """Whether a condition is True."""
    return condition(obj, type_).get("status") == "True"
