"""What the autoscaler decides about real engines under real bursts. One service, four engine starts, in this order:

1. Advisory: a burst of long prompts. More prefill is advised, and nothing is written.
2. Internal, right behind the burst: prefill grows, decode does not.
3. A burst of long answers: decode grows, prefill goes back to one.
4. Off: nothing is decided any more. All that was decided before comes out of replay as it was.
"""

import asyncio
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase
from e2e.load.prompts import PromptMaker, tokenizer_of
from e2e.load.results import Outcome, Result, summarise
from e2e.support.commands import headrace
from e2e.support.kubectl import Kubectl, Object, condition, is_true, ready, wait_for
from e2e.support.operator_process import OperatorProcess

T = TypeVar("T")
pytestmark = [pytest.mark.cluster, pytest.mark.engine, pytest.mark.timeout(1500)]
START_S = 300  # an engine is Ready in 44 s alone on two cores, in more than 70 s beside another
DECIDE_S = 90  # a burst is seen within 25 s
TICKS_S = 5  # two autoscale ticks and the pass that follows

# The sleep makes an engine's capacity nearly the same on any machine: a step takes 0.12 s, so that prefill does 560
# tokens a second, and each stream 8. Two engines that share two cores then do twice what one does.
ENGINE = {"slowDownSeconds": 0.1, "chunkedPrefillSize": 64, "maxRunningRequests": 64, "contextLength": 4096}
# Until some answers were seen a service expects 256 tokens of each: its very first burst would grow decode too.
FIRST_ANSWERS = Phase("first answers", 0.5, 20, 32, 4, poisson=False)
# 950 prompt tokens a second are the work of 1.7 engines.
LONG_PROMPTS = Phase("long prompts", 1.8, 90, 512, 4, poisson=False)
# A third of an engine's prefill, and 2 x 256 / 8 = 64 streams at a time. Each takes 512 tokens of KV in reserve beside
# its own, so that 36 of them fit.
LONG_ANSWERS = Phase("long answers", 2.0, 90, 32, 256, poisson=False)
KV_TOKENS = 24576


def manifest(model: Path, mode: str) -> Object:
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat"},
        "spec": {
            "model": {"source": f"file://{model}", "servedName": "tiny"},
            "accelerator": "cpu",
            "topology": "Disaggregated",
            "slo": {"ttft": "5s", "tpot": "1s", "percentile": 90},
            "engine": ENGINE,
            "kvCache": {"capacityTokens": KV_TOKENS},
            "autoscaling": {"mode": mode},
            "prefill": {"replicas": {"min": 1, "max": 2}},
            "decode": {"replicas": {"min": 1, "max": 2}},
        },
    }


@dataclass(frozen=True)
class Chat:
    """The service as the scenarios see it."""

    kubectl: Kubectl
    model: Path

    @property
    def name(self) -> str:
        return f"{self.kubectl.namespace}/chat"

    def apply(self, mode: str) -> None:
        self.kubectl.apply(manifest(self.model, mode))

    def status(self) -> Object:
        return (self.kubectl.get("infsvc", "chat") or {}).get("status") or {}

    def explain(self) -> str:
        return headrace("explain", self.name, kubeconfig=self.kubectl.kubeconfig)

    def target(self, role: str) -> int | None:
        """The decided number of replicas."""
        decided: int | None = ((self.status().get("decision") or {}).get(role) or {}).get("target")
        return decided

    def replicas(self, role: str) -> int:
        """What the workload asks for."""
        deployment = self.kubectl.get("deployment", f"chat-{role}")
        assert deployment is not None
        return int(deployment["spec"]["replicas"])

    def deployments(self) -> dict[str, Object]:
        """All of them without what the cluster itself writes: with managedFields, generation and replicas."""
        shown = self.kubectl.run("get", "deployments", "--show-managed-fields", "-o", "json").stdout
        found: dict[str, Object] = {}
        for deployment in json.loads(shown)["items"]:
            meta = deployment["metadata"]
            managed = [entry for entry in meta["managedFields"] if entry.get("subresource") != "status"]
            kept = {"generation": meta["generation"], "labels": meta["labels"], "managedFields": managed}
            found[meta["name"]] = kept | {"spec": deployment["spec"]}
        return found

    def serving(self, role: str, count: int) -> None:
        """Wait until so many pods serve and no other is left."""

        def probe() -> bool:
            pods = self.kubectl.list("pods", f"headrace.dev/service=chat,headrace.dev/role={role}")
            return len(pods) == count and all(is_true(pod, "Ready") for pod in pods)

        wait_for(f"{count} {role} pods to serve", probe, timeout_s=START_S)

    def growths(self) -> list[Object]:
        """The recorded changes that asked for more, oldest first."""
        changes = self.status().get("recentDecisions") or []
        return [change for change in reversed(changes) if change["toReplicas"] > change["fromReplicas"]]

    def during(self, phase: Phase, story: Callable[[], T]) -> tuple[T, list[Result]]:
        """What `story` says, told while the load is offered, and what became of every request."""
        return asyncio.run(self._during(phase, story))

    def _load(self) -> LoadGenerator:
        service = self.kubectl.get("service", "chat")
        assert service is not None
        prompts = PromptMaker(tokenizer_of(self.model), seed=11)
        return LoadGenerator(f"http://{service['spec']['clusterIP']}", "tiny", prompts, max_in_flight=400)

    async def answers(self) -> bool:
        """Whether the gateway knows its engines: some seconds after these are Ready."""
        async with self._load() as load:
            return (await load.probe(32, 4)).outcome is Outcome.OK

    async def _during(self, phase: Phase, story: Callable[[], T]) -> tuple[T, list[Result]]:
        async with self._load() as load:
            stop = asyncio.Event()
            offered = asyncio.create_task(load.run_phase(phase, stop))
            try:
                told = await asyncio.to_thread(story)
            finally:
                stop.set()
            await offered
            assert await load.finish(timeout_s=300) == 0
            return told, load.results


def whole(results: list[Result]) -> None:
    """Every answer came, and none was cut."""
    summary = summarise(results)
    print(f"{summary['sent']} streams, TTFT {summary['ttft_s']}, TPOT {summary['tpot_s']}")
    assert summary["ok"] == summary["sent"] > 0, summary["errors"]


def by(family: str, growths: list[Object]) -> None:
    """Each growth is put down to a constraint of this family, and its sentence has the numbers."""
    assert growths
    for growth in growths:
        assert growth["binding"].startswith(family), growth
        assert re.search(rf"{growth['binding']} asks for \d+\.\d\d \(.*\d.*\)", growth["message"]), growth


@pytest.fixture(scope="module")
def chat(kubectl: Kubectl, model: Path, module_operator: OperatorProcess) -> Iterator[Chat]:
    """The service, Ready in mode Advisory, with a gateway that knows its engines."""
    kubectl.run("create", "namespace", "bursts")
    started = Chat(kubectl.in_namespace("bursts"), model)
    started.apply("Advisory")
    ready(started.kubectl, timeout_s=START_S)
    wait_for("a first answer", lambda: asyncio.run(started.answers()))
    yield started
    kubectl.run("delete", "namespace", "bursts", "--wait=false")


@dataclass(frozen=True)
class Advice:
    """What was seen in mode Advisory: before the burst, and after all its answers had come."""

    before: dict[str, Object]  # the Deployments
    after: dict[str, Object]
    explained: str
    status: Object


@pytest.fixture(scope="module")
def prompts_burst(chat: Chat) -> tuple[Advice, list[Result]]:
    """Long prompts until two prefill engines are advised; then the switch to Internal, and the second engine."""
    chat.during(FIRST_ANSWERS, lambda: time.sleep(FIRST_ANSWERS.duration_s))
    time.sleep(2.0 * TICKS_S)  # the law of answer lengths looks at them at every tick
    before = chat.deployments()

    def story() -> None:
        wait_for("the advice to have two prefill engines", lambda: chat.target("prefill") == 2, timeout_s=DECIDE_S)
        time.sleep(TICKS_S)

    _, results = chat.during(LONG_PROMPTS, story)
    advice = Advice(before, chat.deployments(), chat.explain(), chat.status())
    chat.apply("Internal")
    chat.serving("prefill", 2)
    return advice, results


@pytest.fixture(scope="module")
def answers_burst(chat: Chat, prompts_burst: object) -> tuple[list[Object], list[Result]]:
    """Long answers until decode is given two engines; what grew meanwhile."""
    earlier = chat.growths()

    def story() -> None:
        wait_for("the decode pool to be scaled", lambda: chat.replicas("decode") == 2, timeout_s=DECIDE_S)

    # By the time that the last answer is whole the second engine may be gone again: what was decided tells.
    _, results = chat.during(LONG_ANSWERS, story)
    return [growth for growth in chat.growths() if growth not in earlier], results


def test_advisory_shows_what_it_would_do_and_writes_nothing(prompts_burst: tuple[Advice, list[Result]]) -> None:
    advice, _ = prompts_burst
    assert advice.after == advice.before
    assert advice.after["chat-prefill"]["spec"]["replicas"] == 1
    assert condition({"status": advice.status}, "ScalingActive")["reason"] == "Advisory"
    assert "prefill: 2 wanted; 1 serve" in advice.explained
    assert re.search(r"^ \* +[12]\.\d\d for Prefill", advice.explained, re.MULTILINE), advice.explained


def test_a_prefill_heavy_burst_grows_prefill_alone(chat: Chat, prompts_burst: tuple[Advice, list[Result]]) -> None:
    _, results = prompts_burst
    whole(results)
    growths = chat.growths()
    assert {growth["role"] for growth in growths} == {"prefill"}, growths
    by("Prefill", growths)
    assert (chat.replicas("prefill"), chat.replicas("decode")) == (2, 1)
    explained = chat.explain()
    assert "prefill: 2 wanted; 2 serve" in explained
    assert re.search(r"prefill 1 -> 2 ScaleUp \((Prefill\w+)\): .*\1 asks for \d+\.\d\d \(", explained), explained


def test_a_decode_heavy_burst_grows_decode_alone(chat: Chat, answers_burst: tuple[list[Object], list[Result]]) -> None:
    growths, results = answers_burst
    whole(results)
    assert {growth["role"] for growth in growths} == {"decode"}, growths
    by("Decode", growths)
    explained = chat.explain()
    assert re.search(r"decode 1 -> 2 ScaleUp \((Decode\w+)\): .*\1 asks for \d+\.\d\d \(", explained), explained
    wait_for("prefill to be one engine again", lambda: chat.replicas("prefill") == 1)


def test_off_decides_nothing_and_leaves_the_replicas(
    chat: Chat, answers_burst: object, module_operator: OperatorProcess
) -> None:
    chat.apply("Off")
    wait_for("scaling to be off", lambda: "ScalingActive=False (ModeOff)" in chat.explain())
    log = Path(module_operator.settings["HEADRACE_DECISION_LOG_DIR"])
    time.sleep(TICKS_S)  # the last decision is written and carried out
    replicas = chat.replicas("decode")
    sizes = {path.name: path.stat().st_size for path in log.iterdir()}
    time.sleep(TICKS_S)
    assert {path.name: path.stat().st_size for path in log.iterdir()} == sizes
    assert chat.replicas("decode") == replicas


def test_every_decision_of_the_bursts_is_replayed_as_it_was(
    chat: Chat, answers_burst: object, module_operator: OperatorProcess, tmp_path: Path
) -> None:
    recorded = shutil.copytree(module_operator.settings["HEADRACE_DECISION_LOG_DIR"], tmp_path / "decisions")
    print(headrace("replay", str(recorded), "--service", chat.name))  # status 1 and the first difference otherwise
