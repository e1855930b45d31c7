"""The embedded cluster as one object, used by the command line, the demo and the end-to-end tests."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from headrace_cluster import adapter, binaries, checks, external, readiness
from headrace_cluster import prometheus as prom
from headrace_cluster.addresses import Plan
from headrace_cluster.api import Api
from headrace_cluster.bringup import NODE_LABELS, BringUp, Options, administrator
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout, cache_dir, clusters_dir, layout
from headrace_cluster.node import Node
from headrace_cluster.record import Record, alone, read_record, write_record
from headrace_cluster.report import Report


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
        return read_record(self.layout)

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
        # Two runs with one name take turns, so that the second finds the first one's cluster.
        with alone(f".{self.name}.lock"):
            if self.running():
                return self
            if kube_context is not None:
                return self._attach(kube_context)
            options = Options(
                prometheus=prometheus or prometheus_config is not None,
                prometheus_config=prometheus_config,
                fake_gpus=fake_gpus,
                node_labels=node_labels,
                models=(model_dir or cache_dir() / "models").absolute(),
            )
            prepare_host(self._report, install=install)
            BringUp(self.layout, self._node, self._report, options).run()
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
        write_record(self.layout, Record(index=None, usable=True, kube_context=context))
        return self

    def serve_external_metrics(self, rules: Path) -> None:
        """Serve external.metrics.k8s.io from Prometheus by `rules` (prometheus-adapter's configuration).

        Builds the adapter if it is not cached. Returns when the API server reaches it.
        """
        prometheus_url = self.prometheus_url
        program = binaries.ensure([binaries.PROMETHEUS_ADAPTER], self._report)[binaries.PROMETHEUS_ADAPTER.name]
        api = self.api()
        for path, manifest in adapter.manifests(self.layout):
            api.apply(path, manifest)
        process = adapter.component(program, self.layout, rules.absolute(), prometheus_url)
        self._node.request("start", name=process.name, argv=process.argv)
        readiness.wait(
            "the external metrics API",
            lambda: adapter.available(api.get(adapter.API_SERVICE)),
            self._node,
            self.layout,
        )

    # ---- use

    def api(self) -> Api:
        """A client with the administrator's certificate."""
        return administrator(self.layout, self.plan)

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
        readiness.wait("the API server", self.api().ready, self._node, self.layout)

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
