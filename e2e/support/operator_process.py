"""The operator as a process outside the cluster, with the rights of its ServiceAccount: it can be killed or stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from e2e.support.kubectl import Kubectl

NAMESPACE = "headrace-system"


def service_account_kubeconfig(kubectl: Kubectl, path: Path) -> Path:
    """A kubeconfig that holds a token of the operator's ServiceAccount, so that its RBAC is what is tested."""
    admin = yaml.safe_load(kubectl.kubeconfig.read_text())
    token = (
        kubectl.in_namespace(NAMESPACE).run("create", "token", "headrace-operator", "--duration", "8h").stdout.strip()
    )
    admin["users"] = [{"name": "operator", "user": {"token": token}}]
    admin["contexts"] = [{"name": "operator", "context": {"cluster": admin["clusters"][0]["name"], "user": "operator"}}]
    admin["current-context"] = "operator"
    path.write_text(yaml.safe_dump(admin))
    path.chmod(0o600)
    return path


def leader(kubectl: Kubectl) -> str:
    """Who holds the Lease."""
    lease = kubectl.in_namespace(NAMESPACE).get("lease", "headrace-operator") or {}
    return str(lease.get("spec", {}).get("holderIdentity") or "")


@dataclass
class OperatorProcess:
    """One running `headrace operator`."""

    kubeconfig: Path
    log: Path
    identity: str
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> "OperatorProcess":
        """Start it; its JSON log goes to `log`."""
        env = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HEADRACE_IDENTITY": self.identity,
            "HEADRACE_LISTEN_PORT": str(self.port),
            **self.settings,
        }
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("headrace")), "operator"],
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Ask it to end and wait; the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)
