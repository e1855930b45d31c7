"""Bringing a cluster up, step by step, from nothing to the last readiness gate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace_cluster import (
    binaries,
    checks,
    components,
    environment,
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
from headrace_cluster.layout import Layout
from headrace_cluster.node import Node
from headrace_cluster.record import Record, alone, write_record
from headrace_cluster.report import Report

NODE_LABELS: Mapping[str, str] = {"headrace.dev/embedded": "true"}


@dataclass(frozen=True, slots=True)
class Options:
    """What a cluster should have."""

    models: Path
    prometheus: bool = False
    prometheus_config: Path | None = None
    fake_gpus: int = 0
    node_labels: Mapping[str, str] = field(default_factory=lambda: NODE_LABELS)


def administrator(layout: Layout, plan: Plan) -> Api:
    """A client with all rights."""
    folder = layout.pki
    return Api(plan.api_url, ca=folder / "ca.crt", certificate=folder / "admin.crt", key=folder / "admin.key")


class BringUp:
    """One attempt; what it started is gone again when it fails, and only the logs stay."""

    def __init__(self, layout: Layout, node: Node, report: Report, options: Options) -> None:
        self._layout = layout
        self._node = node
        self._report = report
        self._options = options

    def run(self) -> None:
        """Start everything and wait until pods can be applied; raises ClusterError."""
        options = self._options
        tools = [tool for tool in binaries.ALL if options.prometheus or tool != binaries.PROMETHEUS]
        programs = binaries.ensure(tools, self._report)
        options.models.mkdir(parents=True, exist_ok=True)
        folders = environment.folders(options.models)
        try:
            with self._report.step("node"):
                plan = self._start_node()
                self._write_configuration(plan)
            table = components.table(
                self._layout, plan, programs, node_labels=options.node_labels, prometheus=options.prometheus
            )
            api = administrator(self._layout, plan)
            self._start_components(api, table, folders)
            self._wait_until_usable(api)
            self._record(plan, usable=True)
        except BaseException:
            self._node.clear(keep_logs=True)
            raise

    def _start_node(self) -> Plan:
        # One at a time: two clusters that start together must not choose the same addresses.
        with alone(".addresses.lock"):
            self._node.clear()
            plan = choose(network.routed_networks())
            self._node.start()
            network.connect(self._layout, plan, self._node.process())
        self._record(plan, usable=False)
        return plan

    def _record(self, plan: Plan, *, usable: bool) -> None:
        options = self._options
        record = Record(plan.index, usable=usable, prometheus=options.prometheus, models=str(options.models))
        write_record(self._layout, record)

    def _write_configuration(self, plan: Plan) -> None:
        folder = self._layout.pki
        pki.write_all(folder, self._layout.name, plan.api_url, (plan.node_ip, plan.kubernetes_ip))
        (folder / "admin.kubeconfig").rename(self._layout.kubeconfig)
        scraping = None
        if self._options.prometheus:
            scraping = prom.config(folder / "prometheus.kubeconfig", self._options.prometheus_config)
        settings.write_all(self._layout, plan, scraping)

    def _start_components(self, api: Api, table: Sequence[components.Component], folders: Sequence[Path]) -> None:
        for component in table:
            if component.name in components.FOUNDATION:
                self._node.request("start", name=component.name, argv=component.argv)
        with self._report.step("images"):
            self._import_images()
        with self._report.step("API server ready"):
            self._wait("the API server", api.ready)
            for path, manifest in policy.manifests(folders):
                api.apply(path, manifest)
        for component in table:
            if component.name not in components.FOUNDATION:
                self._node.request("start", name=component.name, argv=component.argv)

    def _import_images(self) -> None:
        archive = self._layout.state / "images.tar"
        busybox = Path(checks.program("busybox")).read_bytes()
        images.write_archive(archive, busybox, environment.search_path())
        ctr = ("ctr", "--address", settings.CONTAINERD_SOCKET, "--namespace", "k8s.io")
        self._wait("containerd", lambda: self._node.run(*ctr, "version", check=False).returncode == 0)
        self._node.run(*ctr, "images", "import", str(archive))
        archive.unlink()

    def _wait_until_usable(self, api: Api) -> None:
        name, gpus = self._layout.name, self._options.fake_gpus
        with self._report.step("node ready"):
            self._wait("the node to be ready", lambda: readiness.node_ready(api, name))
            self._wait("the default ServiceAccount", lambda: readiness.default_account(api))
            self._wait("the environment policy", lambda: readiness.policy_in_force(api))
        if gpus:
            amount = {"nvidia.com/gpu": str(gpus)}
            body = {"status": {"capacity": amount, "allocatable": amount}}
            api.call("PATCH", f"/api/v1/nodes/{name}/status", body, content_type="application/merge-patch+json")
            self._wait("the GPUs", lambda: readiness.gpus_allocatable(api, name, gpus))

    def _wait(self, what: str, opened: Callable[[], bool]) -> None:
        readiness.wait(what, opened, self._node, self._layout)
