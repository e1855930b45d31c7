"""Mode HPA on the real HorizontalPodAutoscaler controller, through a real external metrics API.

The way of a number: decision -> the operator's /metrics -> Prometheus -> prometheus-adapter -> HorizontalPodAutoscaler
-> Deployment. Every part is the real one; the engines are stand-ins. Asked for by HEADRACE_E2E_HPA=1 (`make e2e-hpa`),
since the adapter is built from source the first time.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml
from prometheus_client import start_http_server

from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase
from e2e.load.prompts import PromptMaker, tokenizer_of
from e2e.load.results import Result, summarise
from e2e.support.kubectl import Kubectl, Object, condition, is_true, ready, wait_for
from e2e.support.models import service_on_standin
from e2e.support.operator_process import OperatorProcess, leader
from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.desired.hpa import autoscalers
from headrace.loops.keys import Key
from headrace.observability.metrics import Metrics
from headrace_cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("HEADRACE_E2E_HPA"),
        reason="builds prometheus-adapter the first time (2.5 minutes): HEADRACE_E2E_HPA=1, or `make e2e-hpa`",
    ),
]
CONTROLLER = "kube-controller-manager"
# A Deployment of containers that do nothing, with the name of a pool.
SLEEPERS = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "big-decode"},
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "sleeper"}},
        "template": {
            "metadata": {"labels": {"app": "sleeper"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "sleeper", "image": "headrace/standin:dev", "command": ["sleep", "3600"]}],
            },
        },
    },
}
# The stand-in counts words, some 55 in a prompt of 128 tokens, and computes 200 a second: 3.6 requests a second.
SLOW = {"image": "headrace/standin:dev", "extraArgs": {"standin-prefill-tokens-per-s": 200.0}}


def manifest(model: Path, mode: str) -> Object:
    source = {"source": f"file://{model}", "servedName": "tiny"}
    return service_on_standin(model, model=source, engine=SLOW, autoscaling={"mode": mode})


@pytest.fixture(scope="module")
def operator(
    cluster: Cluster, operator_kubeconfig: Path, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """An operator that Prometheus scrapes."""
    settings = {
        "HEADRACE_AUTOSCALE_INTERVAL_S": "2",
        "HEADRACE_SCALE_DOWN_WINDOW_S": "20",
        "HEADRACE_RESTART_HOLD_S": "5",
        "HEADRACE_PROMETHEUS_URL": cluster.prometheus_url,
    }
    log = tmp_path_factory.mktemp("operator-log") / "operator.log"
    started = OperatorProcess(operator_kubeconfig, log, "hpa-operator", 18071, settings).start()
    wait_for("the operator to lead", lambda: leader(kubectl) == "hpa-operator", timeout_s=60)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def published() -> Iterator[tuple[Metrics, int]]:
    """The operator's metrics without an operator, and the port that serves them: a test says what is decided."""
    metrics = Metrics()
    server, _ = start_http_server(0, registry=metrics.registry)
    yield metrics, server.server_port
    server.shutdown()


@pytest.fixture(scope="module")
def metrics_api(cluster: Cluster, operator: OperatorProcess, published: tuple[Metrics, int]) -> None:
    """Prometheus scrapes the operator, and the adapter serves what it finds there, by the rule of charts/."""
    configuration = cluster.layout.conf / "prometheus.yaml"
    jobs = yaml.safe_load(configuration.read_text())
    scrape = {
        "job_name": "headrace-operator",
        "honor_labels": True,
        "static_configs": [{"targets": [f"{cluster.host_ip}:{port}" for port in (operator.port, published[1])]}],
    }
    configuration.write_text(yaml.safe_dump({**jobs, "scrape_configs": [*jobs["scrape_configs"], scrape]}))
    cluster.restart("prometheus")
    cluster.serve_external_metrics(ROOT / "charts/prometheus-adapter/config.yaml")


@pytest.fixture(scope="module")
def chat(kubectl: Kubectl, metrics_api: None, model: Path) -> Iterator[Kubectl]:
    kubectl.run("create", "namespace", "hpa")
    chat = kubectl.in_namespace("hpa")
    chat.apply(manifest(model, "HPA"))
    ready(chat)
    yield chat
    kubectl.run("delete", "namespace", "hpa", "--wait=false")


def replicas(chat: Kubectl, role: str = "prefill") -> int:
    found = chat.get("deployment", f"chat-{role}")
    assert found is not None
    return int(found["spec"]["replicas"])


def sized(kubectl: Kubectl, count: int) -> bool:
    """Whether the sleepers' Deployment asks for so many."""
    return bool((kubectl.get("deployment", "big-decode") or {})["spec"]["replicas"] == count)


def ready_pods(chat: Kubectl) -> list[Object]:
    """Prefill pods that serve."""
    pods = chat.list("pods", "headrace.dev/role=prefill,headrace.dev/state=serving")
    return [pod for pod in pods if is_true(pod, "Ready")]


def decided(chat: Kubectl, role: str = "prefill") -> int:
    return int(((chat.get("infsvc", "chat") or {})["status"]["decision"])[role]["target"])


def scaling_active(chat: Kubectl) -> tuple[str | None, str | None]:
    found = condition(chat.get("infsvc", "chat"), "ScalingActive")
    return found.get("status"), found.get("reason")


def owners_of_replicas(chat: Kubectl) -> set[str]:
    """The field managers of the prefill Deployment's spec.replicas."""
    found = chat.run("get", "deployment", "chat-prefill", "-o", "yaml", "--show-managed-fields").stdout
    fields = yaml.safe_load(found)["metadata"]["managedFields"]
    owners = [entry["manager"] for entry in fields if "f:replicas" in entry["fieldsV1"].get("f:spec", {})]
    return {CONTROLLER if owner.startswith(CONTROLLER) else owner for owner in owners}  # its file's name has a version


async def load_while(
    chat: Kubectl, model: Path, rate_rps: float, until: Callable[[], object], what: str
) -> list[Result]:
    """Offer streamed requests until something has come about; every one is waited for."""
    service = chat.get("service", "chat")
    assert service is not None
    prompts, stop = PromptMaker(tokenizer_of(model), seed=7), asyncio.Event()
    async with LoadGenerator(f"http://{service['spec']['clusterIP']}", "tiny", prompts) as load:
        running = asyncio.create_task(load.run_phase(Phase(what, rate_rps, 600, 128, 16, poisson=False), stop))
        try:
            await asyncio.to_thread(wait_for, what, until, 240)
        finally:
            stop.set()
            await running
        assert await load.finish(timeout_s=120) == 0
        return load.results


def test_the_real_controller_follows_the_decisions_up_and_down_and_nothing_is_dropped(
    chat: Kubectl, model: Path
) -> None:
    wait_for("the HorizontalPodAutoscalers to work", lambda: scaling_active(chat) == ("True", "Delegated"))
    assert {hpa["metadata"]["name"] for hpa in chat.list("hpa")} == {"chat-prefill", "chat-decode"}

    def grown() -> bool:
        wanted = decided(chat)
        return wanted > 1 and replicas(chat) == wanted == len(ready_pods(chat))

    up = asyncio.run(load_while(chat, model, 8.0, grown, "prefill to grow"))
    assert owners_of_replicas(chat) == {CONTROLLER}
    hpa = chat.get("hpa", "chat-prefill")
    assert hpa is not None
    assert hpa["status"]["desiredReplicas"] == replicas(chat) > 1
    reasons = {event["reason"] for event in chat.list("events") if event["involvedObject"]["name"] == "chat-prefill"}
    assert "SuccessfulRescale" in reasons

    def shrunk() -> bool:
        return replicas(chat) == decided(chat) == 1

    down = asyncio.run(load_while(chat, model, 1.0, shrunk, "prefill to shrink"))
    summary = summarise([*up, *down])
    print(f"{summary['ok']} whole streams while prefill went to {hpa['status']['desiredReplicas']} and back")
    assert (summary["failed"], summary["truncated"]) == (0, 0), summary["errors"]
    assert owners_of_replicas(chat) == {CONTROLLER}
    told = {event["reason"] for event in chat.list("events")}
    assert "DrainStarted" in told, "the victim left the gateway first"
    assert not told & {"RequestsLost", "ReplicasAdopted"}


def test_a_lower_max_drains_first_and_loses_nothing(chat: Kubectl, model: Path) -> None:
    """A HorizontalPodAutoscaler enforces its bounds at once, on whichever pod: Headrace lowers them last."""

    def sized_to(count: int, least: int, most: int) -> bool:
        chat.patch("infsvc", "chat", {"spec": {"prefill": {"replicas": {"min": least, "max": most}}}})
        pods = chat.list("pods", "headrace.dev/role=prefill")
        return replicas(chat) == len(pods) == len(ready_pods(chat)) == count

    results = asyncio.run(load_while(chat, model, 2.0, partial(sized_to, 2, 2, 3), "two prefill engines"))
    results += asyncio.run(load_while(chat, model, 2.0, partial(sized_to, 1, 1, 1), "one prefill engine"))
    summary = summarise(results)
    assert (summary["failed"], summary["truncated"]) == (0, 0), summary["errors"]
    hpa = chat.get("hpa", "chat-prefill")
    assert hpa is not None
    assert hpa["spec"]["maxReplicas"] == 1


def test_in_a_pool_of_twelve_no_single_step_is_overlooked(
    kubectl: Kubectl, metrics_api: None, published: tuple[Metrics, int], model: Path
) -> None:
    """Kubernetes' tolerance of 10 % would leave 12 at 12 where 11 are decided. Sleepers stand for the engines."""
    service = service_on_standin(model, "big", decode={"replicas": {"min": 1, "max": 12}}, autoscaling={"mode": "HPA"})
    service["metadata"] |= {"namespace": "big", "uid": "none"}
    made = next(m for m in autoscalers(InferenceService.parse(service)) if m["metadata"]["name"] == "big-decode")
    del made["metadata"]["ownerReferences"]
    kubectl.run("create", "namespace", "big")
    big = kubectl.in_namespace("big")
    big.apply(SLEEPERS)
    big.apply(made)
    try:
        for count in (12, 11, 12, 10, 9, 10, 1):
            published[0].desire(Key("big", "big"), {Role.DECODE: count})
            wait_for(f"{count} replicas", partial(sized, big, count))
    finally:
        kubectl.run("delete", "namespace", "big", "--wait=false")


def test_a_second_autoscaler_is_named_and_left_alone(chat: Kubectl) -> None:
    chat.run("autoscale", "deployment", "chat-decode", "--name=mine", "--min=2", "--max=2", "--cpu=50%")
    wait_for("the conflict to be named", lambda: scaling_active(chat) == ("False", "ActuatorConflict"), timeout_s=90)
    assert "HorizontalPodAutoscaler/mine" in condition(chat.get("infsvc", "chat"), "ScalingActive")["message"]
    wait_for("ours to make way", lambda: chat.get("hpa", "chat-decode") is None)
    wait_for("theirs to size the pool", lambda: replicas(chat, "decode") == 2)
    chat.delete("hpa", "mine")
    wait_for("ours to be back", lambda: chat.get("hpa", "chat-decode"), timeout_s=90)
    wait_for("the conflict to be over", lambda: scaling_active(chat) == ("True", "Delegated"), timeout_s=90)


def test_back_in_internal_mode_headrace_writes_the_replicas_itself(chat: Kubectl, model: Path) -> None:
    chat.apply(manifest(model, "Internal"))
    wait_for("the HorizontalPodAutoscalers to go", lambda: not chat.list("hpa"))
    wait_for("Headrace to size the pools", lambda: scaling_active(chat) == ("True", "Active"))
    wait_for("Headrace to own the replicas", lambda: "headrace-autoscaler" in owners_of_replicas(chat))
    wait_for("the decided number", lambda: replicas(chat) == decided(chat))
    assert "ReplicasAdopted" not in {event["reason"] for event in chat.list("events")}, "nobody's interference"
