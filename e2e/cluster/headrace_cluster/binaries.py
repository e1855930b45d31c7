"""Kubernetes, etcd and Prometheus programs: official releases if they can be downloaded, else built once from source.

Versions and sources are pinned by the go.mod and go.sum files below `toolmods`. Finished programs lie in the user's
cache, under a name with the version and a hash of the pins.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace_cluster import downloads
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import cache_dir
from headrace_cluster.report import Report

_TOOLMODS = Path(__file__).parent / "toolmods"
# What go.mod asks for; the go command itself says so too, but only after it was found.
_GO_MINOR = 26


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: its tools module, the module that carries its version, and its main package."""

    name: str
    folder: str
    module: str
    package: str
    tags: str = ""
    released: bool = True  # False: its project publishes no program, only images

    @property
    def pins(self) -> Path:
        """The folder with go.mod and go.sum."""
        return _TOOLMODS / self.folder

    @property
    def version(self) -> str:
        """The version that go.mod requires, e.g. "v1.36.4"."""
        text = (self.pins / "go.mod").read_text()
        found = re.search(rf"^(?:require\s+|\s+){re.escape(self.module)}\s+(v\S+)", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"{self.pins / 'go.mod'} requires no {self.module}.")
        return found[1]

    @property
    def linker_flags(self) -> str:
        """Kubernetes reads its version from variables that the linker sets; clients check it."""
        if self.folder != "kubernetes":
            return "-s -w"
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        values = {"gitVersion": self.version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
        return "-s -w " + " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())

    @property
    def file_name(self) -> str:
        """The name in the cache: whatever changes the program changes the name."""
        pins = hashlib.sha256((self.pins / "go.mod").read_bytes() + (self.pins / "go.sum").read_bytes())
        pins.update(f"{self.package} {self.tags} {self.linker_flags}".encode())
        return f"{self.name}-{self.version}-{pins.hexdigest()[:10]}"


_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
ETCD = Tool("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3")
KUBERNETES = tuple(
    Tool(name, "kubernetes", "k8s.io/kubernetes", f"k8s.io/kubernetes/cmd/{name}") for name in _KUBERNETES
)
# Without these tags Prometheus compiles the client libraries of every cloud: 510 s instead of 215 s on 2 cores.
PROMETHEUS = Tool(
    "prometheus",
    "prometheus",
    "github.com/prometheus/prometheus",
    "github.com/prometheus/prometheus/cmd/prometheus",
    tags="remove_all_sd,enable_kubernetes_sd,netgo",
)
# Only for HorizontalPodAutoscalers that follow a metric of Prometheus: made when it is asked for (2.5 minutes).
PROMETHEUS_ADAPTER = Tool(
    "prometheus-adapter",
    "prometheus-adapter",
    "sigs.k8s.io/prometheus-adapter",
    "sigs.k8s.io/prometheus-adapter/cmd/adapter",
    released=False,
)
ALL = (ETCD, *KUBERNETES, PROMETHEUS)


def cached(tool: Tool) -> Path | None:
    """The finished program, or None."""
    path = cache_dir() / "bin" / tool.file_name
    return path if path.exists() else None


def ensure(tools: Sequence[Tool], report: Report) -> dict[str, Path]:
    """The program files by tool name, downloaded or built where they are missing (15 minutes cold on 2 cores)."""
    missing = [tool for tool in tools if cached(tool) is None]
    if missing:
        folder = cache_dir() / "bin"
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder, report):
            for number, tool in enumerate(missing, start=1):
                if cached(tool) is None:  # else another process made it while this one waited for the lock
                    _obtain(tool, folder, report, f"{number} of {len(missing)}")
        if not downloads.reachable():
            report.line("  Go's own caches hold up to 12 GB for this; `go clean -cache -modcache` frees them.")
    return {tool.name: cache_dir() / "bin" / tool.file_name for tool in tools}


def _obtain(tool: Tool, folder: Path, report: Report, position: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{tool.name}-") as scratch:
        program = Path(scratch) / tool.name
        if tool.released and downloads.reachable():
            with report.step(f"downloading {tool.name} {tool.version} ({position})"):
                downloaded = downloads.fetch(tool.name, tool.version, program)
        else:
            downloaded = False
        if not downloaded:
            with report.step(f"building {tool.name} {tool.version} ({position})", slow=True):
                _build(tool, program)
        program.chmod(0o755)
        program.replace(folder / tool.file_name)


@contextmanager
def _lock(folder: Path, report: Report) -> Iterator[None]:
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with report.step("waiting for another run that makes the programs", slow=True):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _go() -> str:
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin")
    if found is None:
        raise ClusterError(
            f"Neither dl.k8s.io can be reached nor is Go installed: install Go 1.{_GO_MINOR} or newer from go.dev/dl."
        )
    return found


def _build(tool: Tool, program: Path) -> None:
    """Compile from the pinned modules; with -mod=readonly nothing may differ from go.sum."""
    command = [_go(), "build", "-mod=readonly", "-trimpath", "-ldflags", tool.linker_flags, "-o", str(program)]
    command += ["-tags", tool.tags] if tool.tags else []
    done = subprocess.run(
        [*command, tool.package],
        cwd=tool.pins,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise ClusterError(f"Building {tool.name} {tool.version} failed (`go build` in {tool.pins}): {tail}")
