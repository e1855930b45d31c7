"""`python -m e2e.demo`: a served, autoscaled model on a real Kubernetes, with a report at the end."""

import argparse
import asyncio
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from rich.console import Console

from e2e.demo import diagnostics, setup
from e2e.demo.record import RunRecord
from e2e.demo.report import report
from e2e.demo.run import Target, run
from e2e.demo.script import NAMESPACE, Script
from e2e.demo.setup import DemoError, stage
from e2e.demo.summary import summary
from e2e.demo.verdict import shortcomings
from e2e.support.kubectl import Kubectl
from headrace.cli.version import versions
from headrace_cluster.cluster import Cluster
from headrace_cluster.errors import ClusterError
from headrace_cluster.report import Report

PACKAGES = (
    "headrace",
    "sglang",
    "torch",
    "transformers",
    "mooncake-transfer-engine-non-cuda",
    "smg",
    "kopf",
    "kubernetes",
)
NAME = "demo"  # of the embedded cluster


def main() -> int:
    """Run the demo; the exit status is 0 only if both pools grew and shrank and no request was lost."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end")
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="folder of the report")
    args = parser.parse_args()
    console = Console(highlight=False)
    _clear(args.out)
    record = RunRecord(service=f"{NAMESPACE}/{NAME}")
    cluster = Cluster(NAME, report=Report())
    try:
        _demo(cluster, record, args.out, console)
    except (DemoError, ClusterError) as error:
        record.errors.append(str(error))
    except KeyboardInterrupt:
        record.errors.append("stopped by the user")
    except Exception as error:
        console.print_exception()  # a defect: the report and the logs are wanted all the more
        record.errors.append(f"{type(error).__name__}: {error}")
    failures = shortcomings(record)
    _write(record, args.out)
    if failures and cluster.running():
        kubectl = Kubectl(cluster.kubectl_binary, cluster.kubeconfig, NAMESPACE)
        diagnostics.collect(kubectl, args.out / "diagnostics")
    _tell(record, failures, args.out, console)
    _end(cluster, args.keep, console)
    return 1 if failures else 0


def _clear(out: Path) -> None:
    """An empty folder for the report: what an earlier run left there would be taken for this one's."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / "diagnostics", ignore_errors=True)
    for name in ("index.html", "summary.json", "requests.jsonl"):
        (out / name).unlink(missing_ok=True)


def _demo(cluster: Cluster, record: RunRecord, out: Path, console: Console) -> None:
    script = Script()
    with stage(record, console, "Kubernetes: etcd, API server, scheduler, kubelet, Prometheus"):
        cluster.up(prometheus=True)
    kubectl = Kubectl(cluster.kubectl_binary, cluster.kubeconfig, NAMESPACE)
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    record.versions = _versions(kubectl)
    model = cluster.models / "tiny"
    with stage(record, console, "The tiny model"):
        setup.make_model(model)
    with stage(record, console, "CRD and operator"):
        setup.install(kubectl, cluster)
    with stage(record, console, "InferenceService applied, prefill, decode and gateway Ready"):
        name = setup.apply_service(kubectl, model, record)
        setup.wait_ready(kubectl, name, script, console)
    with stage(record, console, "Load: low, high until both pools grew, low until both shrank"):
        target = Target(setup.gateway_url(kubectl, name), name, model, cluster.prometheus_url)
        asyncio.run(run(script, target, record, out, console))


def _versions(kubectl: Kubectl) -> dict[str, str]:
    server = json.loads(kubectl.run("version", "-o", "json").stdout)["serverVersion"]["gitVersion"]
    node = kubectl.list("nodes")[0]["status"]["nodeInfo"]
    return {
        **versions(PACKAGES),
        "Python": platform.python_version(),
        "Kubernetes": server,
        "container runtime": node["containerRuntimeVersion"],
        "kernel": node["kernelVersion"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
    }


def _write(record: RunRecord, out: Path) -> None:
    (out / "summary.json").write_text(json.dumps(summary(record), indent=2) + "\n")
    (out / "index.html").write_text(report(record), encoding="utf-8")


def _tell(record: RunRecord, failures: list[str], out: Path, console: Console) -> None:
    counts = summary(record)["requests"]
    console.print("\nrequests: " + ", ".join(f"{counts[key]} {key}" for key in ("sent", "ok", "failed", "truncated")))
    console.print(f"report:   {out / 'index.html'}    figures: {out / 'summary.json'}")
    if not failures:
        console.print("[bold green]Both pools grew and shrank, and no request was lost.[/]")
        return
    console.print("[bold red]The demo did not show what it is for:[/]")
    for failure in failures:
        console.print(f"  - {failure}", markup=False)
    console.print(f"Logs, events and objects: {out / 'diagnostics'}")


def _end(cluster: Cluster, keep: bool, console: Console) -> None:
    if not keep:
        cluster.down()
        console.print(
            "\nNext: `make demo KEEP=1` leaves the cluster up to look around;\n"
            "`headrace plan crds/samples/disaggregated.yaml` shows what a service on GPUs would take;\n"
            "docs/architecture.md says how it works.",
            markup=False,
        )
        return
    console.print(
        f"\nThe cluster is up. Next:\n"
        f"  headrace-cluster kubectl --name {cluster.name} get infsvc,pods\n"
        f"  export KUBECONFIG={cluster.kubeconfig}\n"
        f"  headrace explain {NAME} --watch\n"
        f"  headrace doctor --prometheus-url {cluster.prometheus_url}\n"
        f"  headrace-cluster down --name {cluster.name}      # when you are done",
        markup=False,
    )


if __name__ == "__main__":
    sys.exit(main())
