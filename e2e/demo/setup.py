"""The steps before the load: cluster, model, operator, InferenceService, Ready."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from rich.console import Console

from e2e.demo.observe import conditions
from e2e.demo.record import Objective, RunRecord, Stage
from e2e.demo.script import NAMESPACE, OPERATOR_ENV, Script, operator_manifests, sample_manifest
from e2e.load.clock import wall_clock
from e2e.support.kubectl import Kubectl, Object, WaitedInVainError, is_true, wait_for
from headrace_cluster.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "crds/samples/cpu-demo-disaggregated.yaml"


class DemoError(Exception):
    """The demo cannot go on; the message says what was waited for and what was seen."""


@contextmanager
def stage(record: RunRecord, console: Console, name: str) -> Iterator[None]:
    """One step: announced, timed, noted."""
    console.print(f"[bold]{name}[/] ...")
    begun = wall_clock()
    try:
        yield
    except subprocess.CalledProcessError as error:
        raise DemoError(f"{name}: {error.cmd[-1]}: {str(error.stderr or error).strip()}") from error
    record.stages.append(Stage(name, round(wall_clock() - begun, 1)))
    console.print(f"  done in {record.stages[-1].seconds:.1f} s")


def make_model(folder: Path) -> None:
    """The tiny model, made once and kept: seeded weights and a tokenizer of its own."""
    if (folder / "config.json").is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("headrace-engine")), "make-tiny-model", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"the tiny model cannot be made: {done.stderr.strip()}")


def install(kubectl: Kubectl, cluster: Cluster) -> None:
    """The CRD, then the operator with the demo's windows, and wait until it leads."""
    kubectl.run("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    # `kubectl wait` gives up on a CRD so new that it has no conditions at all.
    crd = "inferenceservices.headrace.dev"
    _wait("the CRD to be established", lambda: is_true(kubectl.get("crd", crd), "Established"), 60)
    rendered = list(yaml.safe_load_all(kubectl.run("kustomize", str(ROOT / "charts/operator")).stdout))
    env = {**OPERATOR_ENV, "HEADRACE_PROMETHEUS_URL": cluster.prometheus_url}
    system = kubectl.in_namespace("headrace-system")
    system.apply(yaml.safe_dump_all(operator_manifests(rendered, env)))
    _wait(
        "the operator to lead",
        lambda: ((system.get("lease", "headrace-operator") or {}).get("spec") or {}).get("holderIdentity"),
        90,
    )


def apply_service(kubectl: Kubectl, model: Path, record: RunRecord) -> str:
    """Apply the sample; its name."""
    manifest = sample_manifest(yaml.safe_load(SAMPLE.read_text()), str(model))
    kubectl.apply(manifest)
    slo = manifest["spec"]["slo"]
    record.service = f"{NAMESPACE}/{manifest['metadata']['name']}"
    record.objective = Objective(_seconds(slo["ttft"]), _seconds(slo["tpot"]), slo["percentile"])
    return str(manifest["metadata"]["name"])


def _seconds(duration: str) -> float:
    return float(duration[:-2]) / 1000 if duration.endswith("ms") else float(duration.removesuffix("s"))


def wait_ready(kubectl: Kubectl, name: str, script: Script, console: Console) -> None:
    """Wait for Ready; every change of a condition is shown."""
    shown: dict[str, str] = {}

    def probe() -> Object | None:
        service = kubectl.get("infsvc", name)
        for kind, status, reason, message in conditions(service or {}):
            text = f"{kind}={status} ({reason}) {message}"
            if shown.get(kind) != text:
                shown[kind] = text
                console.print(f"  [dim]{text}[/]", markup=True, highlight=False, soft_wrap=True)
        return service if is_true(service, "Ready") else None

    _wait(f"InferenceService {name} to be Ready", probe, script.ready_limit_s)


def gateway_url(kubectl: Kubectl, name: str) -> str:
    """The address of the service's gateway as this machine reaches it: Service addresses are routed to it."""
    service = kubectl.get("service", name)
    if service is None:
        raise DemoError(f"there is no Service {name}")
    return f"http://{service['spec']['clusterIP']}"


def _wait(what: str, probe: object, limit_s: float) -> None:
    try:
        wait_for(what, probe, timeout_s=limit_s, interval_s=1)  # type: ignore[arg-type]
    except WaitedInVainError as error:
        raise DemoError(str(error)[:600]) from None
