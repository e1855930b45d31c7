"""The embedded cluster as one object, used by the command line, the demo and the end-to-end tests."""

import fcntl
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace_cluster import (
    binaries,
    checks,
    components,
    environment,
    external,
    images,
    network,
    pki,
    policy,
    readiness,
    settings,
)
from headrace_cluster import prometheus as prom
from headrace_cluster.addresses import Plan, choose
from headrace_cluster.api import Api
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout, cache_dir, clusters_dir, layout
from headrace_cluster.node import Node
from headrace_cluster.report import Report

NODE_LABELS: Mapping[str, str] = {"headrace.dev/embedded": "true"}


@dataclass(frozen=True, slots=True)
class Record:
    """What `up` decided, kept in the cluster's state; `index` is None for an existing cluster's context.

    `usable` turns true when `up` has seen every gate open: a run that was killed before leaves it false.
    """

    index: int | None
    usable: bool = False
    kube_context: str | None = None
    prometheus: bool = False
    models: str | None = None


class Cluster:
    """A real Kubernetes of one node on this machine; as a context manager it goes down at the end of the block.

    >>> with Cluster("demo").up(prometheus=True) as cluster:
    ...     print(cluster.kubectl("get", "nodes"))
    """

    def __init__(self, name: str = "headrace", *, report: Report | None = None) -> None:
        self.layout: Layout = layout(name)
        self.name = name
        self._node = Node(self.layout)
        self._report = report or Report(quiet=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # ---- what there is

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def record(self) -> Record | None:
        """What the last `up` decided, or None when there is no cluster."""
        try:
            return Record(**json.loads(self.layout.record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    @property
    def plan(self) -> Plan:
        """The cluster's addresses; raises ClusterError when it isn't up or is an existing one."""
        record = self.record
        if record is None or record.index is None:
            raise ClusterError(f"There is no embedded cluster {self.name!r}: start it with `headrace-cluster up`.")
        return Plan(record.index)

    @property
    def node_ip(self) -> str:
        """The node's address, reached from this machine and from pods."""
        return str(self.plan.node_ip)

    @property
    def host_ip(self) -> str:
        """This machine's address as pods reach it."""
        return str(self.plan.host_ip)

    @property
    def prometheus_url(self) -> str:
        """Prometheus, reached from this machine and from pods; raises ClusterError when it wasn't asked for."""
        plan, record = self.plan, self.record
        if record is None or not record.prometheus:
            raise ClusterError(f"Cluster {self.name!r} runs without Prometheus: start it with `up --prometheus`.")
        return f"http://{plan.node_ip}:{prom.PORT}"

    @property
    def models(self) -> Path:
        """The folder of models that pods see at the same path."""
        record = self.record
        return Path(record.models) if record and record.models else cache_dir() / "models"

    def running(self) -> bool:
        """Is the cluster up (an existing one: attached)?"""
        record = self.record
        return record is not None and record.usable and (record.kube_context is not None or self._node.running())

    def component_status(self) -> list[dict[str, Any]]:
        """Name, running, pid, starts, age_s and pss_bytes of every component."""
        found: list[dict[str, Any]] = self._node.request("status")["components"]
        return found

    # ---- up and down

    def up(
        self,
        *,
        prometheus: bool = False,
        prometheus_config: Path | None = None,
        fake_gpus: int = 0,
        node_labels: Mapping[str, str] = NODE_LABELS,
        model_dir: Path | None = None,
        install: bool = False,
        kube_context: str | None = None,
    ) -> Self:
        """Bring the cluster up, or do nothing if it is; clears what a killed run left. Raises ClusterError."""
        if self.running():
            return self
        if kube_context is not None:
            return self._attach(kube_context)
        prepare_host(self._report, install=install)
        models = (model_dir or cache_dir() / "models").absolute()
        models.mkdir(parents=True, exist_ok=True)
        with_prometheus = prometheus or prometheus_config is not None
        tools = binaries.ALL if with_prometheus else [tool for tool in binaries.ALL if tool != binaries.PROMETHEUS]
        programs = binaries.ensure(tools, self._report)
        record = Record(index=None, prometheus=with_prometheus, models=str(models))
        folders = environment.folders(models)
        try:
            with self._report.step("node"):
                plan = self._start_node(record)
                pki.write_all(self.layout.pki, self.name, plan.api_url, (plan.node_ip, plan.kubernetes_ip))
                (self.layout.pki / "admin.kubeconfig").rename(self.kubeconfig)
                prometheus_kubeconfig = self.layout.pki / "prometheus.kubeconfig"
                prometheus_yaml = prom.config(prometheus_kubeconfig, prometheus_config) if with_prometheus else None
                settings.write_all(self.layout, plan, prometheus_yaml)
            table = components.table(self.layout, plan, programs, node_labels=node_labels, prometheus=with_prometheus)
            self._start_components(table, folders)
            self._wait_until_usable(fake_gpus)
            self._write(replace(record, index=plan.index, usable=True))
        except BaseException:
            self._node.clear(keep_logs=True)
            raise
        return self

    def down(self) -> None:
        """End the cluster and remove everything it had, also what a killed run left; harmless when there is none."""
        record = self.record
        if record is not None and record.kube_context is not None:
            self.layout.kubeconfig.unlink(missing_ok=True)
            self.layout.record.unlink()
            self.layout.state.rmdir()
            return
        if not self._node.traces():
            return
        checks.require_root()
        self._node.clear()

    def _attach(self, context: str) -> Self:
        kubectl = external.installed_kubectl() or binaries.ensure([_KUBECTL], self._report)["kubectl"]
        external.attach(context, self.kubeconfig, kubectl)
        self._write(Record(index=None, usable=True, kube_context=context))
        return self

    def _write(self, record: Record) -> None:
        self.layout.record.write_text(json.dumps(asdict(record)))

    def _start_node(self, record: Record) -> Plan:
        # One at a time: two clusters that start together must not choose the same addresses.
        with _alone():
            self._node.clear()
            plan = choose(network.routed_networks())
            self._node.start()
            network.connect(self.layout, plan, self._node.process())
            self._write(replace(record, index=plan.index))
        return plan

    def _start_components(self, table: Sequence[components.Component], folders: Sequence[Path]) -> None:
        early = [component for component in table if component.name in components.FOUNDATION]
        for component in early:
            self._start(component)
        with self._report.step("images"):
            self._import_images()
        with self._report.step("API server ready"):
            self._wait("the API server", self.api().ready)
            for path, manifest in policy.manifests(folders):
                self.api().apply(path, manifest)
        for component in table:
            if component not in early:
                self._start(component)

    def _start(self, component: components.Component) -> None:
        self._node.request("start", name=component.name, argv=component.argv)

    def _import_images(self) -> None:
        archive = self.layout.state / "images.tar"
        busybox = Path(checks.program("busybox")).read_bytes()
        images.write_archive(archive, busybox, environment.search_path())
        ctr = ("ctr", "--address", settings.CONTAINERD_SOCKET, "--namespace", "k8s.io")
        self._wait("containerd", lambda: self._node.run(*ctr, "version", check=False).returncode == 0)
        self._node.run(*ctr, "images", "import", str(archive))
        archive.unlink()

    def _wait_until_usable(self, fake_gpus: int) -> None:
        api = self.api()
        with self._report.step("node ready"):
            self._wait("the node to be ready", lambda: readiness.node_ready(api, self.name))
            self._wait("the default ServiceAccount", lambda: readiness.default_account(api))
            self._wait("the environment policy", lambda: readiness.policy_in_force(api))
        if fake_gpus:
            amount = {"nvidia.com/gpu": str(fake_gpus)}
            body = {"status": {"capacity": amount, "allocatable": amount}}
            merge = "application/merge-patch+json"
            api.call("PATCH", f"/api/v1/nodes/{self.name}/status", body, content_type=merge)
            self._wait("the GPUs", lambda: readiness.gpus_allocatable(api, self.name, fake_gpus))

    def _wait(self, what: str, opened: Any) -> None:
        readiness.wait(what, opened, self._node, self.layout)

    # ---- use

    def api(self) -> Api:
        """A client with the administrator's certificate."""
        folder = self.layout.pki
        return Api(self.plan.api_url, ca=folder / "ca.crt", certificate=folder / "admin.crt", key=folder / "admin.key")

    @property
    def kubectl_binary(self) -> Path:
        """The kubectl that fits this cluster."""
        record = self.record
        if record is None:
            raise ClusterError(f"There is no cluster {self.name!r}: start it with `headrace-cluster up`.")
        own = external.installed_kubectl() if record.kube_context is not None else None
        return own or binaries.ensure([_KUBECTL], self._report)["kubectl"]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its standard output; raises ClusterError with its standard error."""
        command = [str(self.kubectl_binary), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def restart(self, component: str) -> None:
        """Stop a component and start it again; returns when the API server (whichever was restarted) is ready."""
        self._node.request("restart", name=component)
        self._wait("the API server", self.api().ready)

    def stop(self, component: str) -> None:
        """Stop a component until `start`."""
        self._node.request("stop", name=component)

    def start(self, component: str) -> None:
        """Start a stopped component."""
        self._node.request("start", name=component)


def prepare_host(report: Report, *, install: bool) -> None:
    """Raise ClusterError unless this machine can host clusters; with `install` add missing Debian packages first."""
    checks.require_root()
    if install and (packages := checks.missing_packages()):
        with report.step(f"installing {', '.join(packages)}"):
            checks.install(packages)
    checks.require_host(clusters_dir())


def names() -> list[str]:
    """The names of all clusters of this user, up or left by a killed run."""
    folder = clusters_dir()
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


_KUBECTL = next(tool for tool in binaries.KUBERNETES if tool.name == "kubectl")


@contextmanager
def _alone() -> Iterator[None]:
    clusters_dir().mkdir(parents=True, exist_ok=True)
    with (clusters_dir() / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
