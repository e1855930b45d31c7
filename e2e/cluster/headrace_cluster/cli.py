"""Command line: headrace-cluster prepare | up | status | kubectl | restart | down."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from headrace_cluster import binaries
from headrace_cluster.bringup import NODE_LABELS
from headrace_cluster.cluster import Cluster, names, prepare_host
from headrace_cluster.errors import ClusterError
from headrace_cluster.report import Report

app = typer.Typer(
    help="A real Kubernetes (API server, kubelet, containerd, kube-proxy) on this machine, without a registry.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: [bold]headrace-cluster up --prometheus && headrace-cluster kubectl get nodes[/bold]",
)
Name = Annotated[str, typer.Option("--name", "-n", help="Which cluster; several can live side by side.")]
DEFAULT_NAME = "headrace"


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn a ClusterError into its sentence and exit status 1."""
    try:
        yield
    except ClusterError as error:
        Console(stderr=True, highlight=False).print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _labels(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise ClusterError(f"--node-label {pair!r}: write KEY=VALUE, e.g. gpu=h100.")
    return {**NODE_LABELS, **dict(pair.split("=", 1) for pair in pairs)}


@app.command(epilog="Example: [bold]headrace-cluster prepare --install[/bold]")
def prepare(
    *,
    install: Annotated[bool, typer.Option("--install", help="Install missing Debian packages with apt.")] = False,
) -> None:
    """Do once what later starts rely on: check the machine, download or build the programs."""
    report = Report()
    with _one_sentence():
        prepare_host(report, install=install)
        binaries.ensure(binaries.ALL, report)


@app.command(
    epilog="Examples:\n\n  [bold]sudo headrace-cluster up[/bold]\n\n"
    "  [bold]headrace-cluster up --prometheus --fake-gpus 8[/bold]\n\n"
    "  [bold]headrace-cluster up --name second --model-dir /srv/models[/bold]\n\n"
    "  [bold]headrace-cluster up --kube-context my-cluster[/bold]"
)
def up(
    name: Name = DEFAULT_NAME,
    *,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Run Prometheus, scraping Headrace's pods.")] = False,
    prometheus_config: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Run Prometheus with this configuration; ${HEADRACE_KUBECONFIG} in it becomes its kubeconfig's path.",
        ),
    ] = None,
    fake_gpus: Annotated[int, typer.Option(min=0, help="Let the node offer that many nvidia.com/gpu.")] = 0,
    node_label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE on the node; repeatable.")] = None,
    model_dir: Annotated[
        Path | None, typer.Option(help="Folder of models that pods see at the same path (default: in the cache).")
    ] = None,
    install: Annotated[bool, typer.Option("--install", help="Install missing Debian packages with apt.")] = False,
    kube_context: Annotated[
        str | None, typer.Option(help="Use this context of your kubeconfig instead of an embedded cluster.")
    ] = None,
) -> None:
    """Bring a cluster up; the first time its programs are downloaded or built (15 minutes on 2 cores)."""
    report = Report()
    with _one_sentence():
        cluster = Cluster(name, report=report)
        if cluster.running():
            report.line(f"Cluster {name!r} is up already; `headrace-cluster down` ends it.")
        else:
            cluster.up(
                prometheus=prometheus,
                prometheus_config=prometheus_config,
                fake_gpus=fake_gpus,
                node_labels=_labels(node_label or []),
                model_dir=model_dir,
                install=install,
                kube_context=kube_context,
            )
        _print_next(cluster)


def _print_next(cluster: Cluster) -> None:
    suffix = "" if cluster.name == DEFAULT_NAME else f" --name {cluster.name}"
    record = cluster.record
    print(f"kubeconfig   {cluster.kubeconfig}")
    if record is not None and record.index is not None:
        print(f"API server   {cluster.plan.api_url}")
        print(f"models       {cluster.models}")
    if record is not None and record.prometheus:
        print(f"Prometheus   {cluster.prometheus_url}")
    print(f"\nnext:  export KUBECONFIG={cluster.kubeconfig}")
    print(f"       headrace-cluster kubectl{suffix} get pods -A")
    print(f"       headrace-cluster status{suffix}")
    print(f"       headrace-cluster down{suffix}")


@app.command(epilog="Example: [bold]headrace-cluster status --name second[/bold]")
def status(name: Name = DEFAULT_NAME) -> None:
    """Show the components with their memory; exits 1 when the cluster isn't up."""
    with _one_sentence():
        cluster = Cluster(name)
        record = cluster.record
        if record is None or not cluster.running():
            raise ClusterError(f"Cluster {name!r} isn't up: start it with `headrace-cluster up`.")
        if record.kube_context is not None:
            print(f"existing cluster, context {record.kube_context}, kubeconfig {cluster.kubeconfig}")
            return
        table = Table("component", "state", "starts", "age s", "memory MiB")
        components = cluster.component_status()
        for component in components:
            state = "running" if component["running"] else "[red]stopped[/red]"
            memory = f"{component['pss_bytes'] / 2**20:.0f}"
            table.add_row(component["name"], state, str(component["starts"]), f"{component['age_s']:.0f}", memory)
        table.add_section()
        table.add_row("all", "", "", "", f"{sum(item['pss_bytes'] for item in components) / 2**20:.0f}")
        Console().print(table)
        _print_next(cluster)


class _PassThrough(TyperCommand):
    """Hands every word on as it is; the usual parsing would eat the `--` that `kubectl exec` needs."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        ctx.args = list(args)
        return args


@app.command(
    cls=_PassThrough,
    epilog="Examples:\n\n  [bold]headrace-cluster kubectl get pods -A[/bold]\n\n"
    "  [bold]headrace-cluster kubectl --name second logs deploy/chat-gateway -f[/bold]",
)
def kubectl(context: typer.Context) -> None:
    """Run kubectl on the cluster; --name NAME, if given, comes first, everything else goes to kubectl."""
    arguments = list(context.args)
    name = DEFAULT_NAME
    if arguments[:1] in (["--help"], ["-h"]):
        print(context.get_help())
        return
    if arguments[:1] == ["--name"] and len(arguments) > 1:
        name, arguments = arguments[1], arguments[2:]
    with _one_sentence():
        cluster = Cluster(name, report=Report())
        program = str(cluster.kubectl_binary)
        sys.stdout.flush()
        os.execve(program, [program, *arguments], {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)})  # noqa: S606


@app.command(epilog="Example: [bold]headrace-cluster restart apiserver[/bold]")
def restart(
    component: Annotated[str, typer.Argument(help="A name that `headrace-cluster status` shows.")],
    name: Name = DEFAULT_NAME,
) -> None:
    """Stop one component and start it again, to see how everything else takes it."""
    with _one_sentence():
        cluster = Cluster(name, report=Report())
        if not cluster.running():
            raise ClusterError(f"Cluster {name!r} isn't up: start it with `headrace-cluster up`.")
        cluster.restart(component)


@app.command(
    epilog="Examples:\n\n  [bold]headrace-cluster down --name second[/bold]\n\n"
    "  [bold]headrace-cluster down --all[/bold]"
)
def down(
    name: Name = DEFAULT_NAME,
    *,
    every: Annotated[bool, typer.Option("--all", help="End every cluster of this user.")] = False,
) -> None:
    """End the cluster; no process, mount, namespace, cgroup, rule or route stays behind."""
    report = Report()
    with _one_sentence():
        for each in names() if every else [name]:
            with report.step(f"cluster {each!r} down"):
                Cluster(each).down()


def main() -> None:
    """Entry point."""
    app()
