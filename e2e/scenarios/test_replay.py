"""Decisions taken under load, again from what the cluster's Prometheus scraped: the same but for a tick here and there.

Stand-in engines on an operator that Prometheus scrapes: quiet, a burst that prefill grows for, quiet again.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.load.generator import LoadGenerator
from e2e.load.phases import Phase
from e2e.load.prompts import PromptMaker, tokenizer_of
from e2e.load.results import summarise
from e2e.support.commands import headrace
from e2e.support.kubectl import Kubectl, Object, ready, wait_for
from e2e.support.models import service_on_standin
from e2e.support.operator_process import OperatorProcess
from headrace_cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
# The stand-in counts four letters as a token: prompts of some 51 tokens, 8 a second, are two engines' work.
SLOW = {"image": "headrace/standin:dev", "extraArgs": {"standin-prefill-tokens-per-s": 200.0}}
QUIET = Phase("quiet", 0.5, 10, 128, 16, poisson=False)  # five decisions for one engine
BURST = Phase("burst", 8.0, 120, 128, 16, poisson=False)  # at most: it ends once prefill has grown
REST = Phase("rest", 0.5, 600, 128, 16, poisson=False)
GROWN_S = 120  # these engines take 500 times the catalogue's price for a token: that is learnt in about 45 s of queues
SETTLED_S = 120  # after the burst: a minute of look-back, the scale-down window of 20 s, a step at a time
TICK_S = 2  # the operator's interval in these scenarios
SCRAPED_S = 3 * TICK_S  # a decision, and two scrapes of 2 s


@pytest.fixture(scope="module")
def scraped(cluster: Cluster, module_operator: OperatorProcess) -> str:
    """The address of the Prometheus, which scrapes the operator from now on as any other target."""
    configuration = cluster.layout.conf / "prometheus.yaml"
    jobs = yaml.safe_load(configuration.read_text())
    target = {"targets": [f"{cluster.host_ip}:{module_operator.port}"], "labels": {"namespace": "headrace-system"}}
    job = {"job_name": "replayed-operator", "static_configs": [target]}
    configuration.write_text(yaml.safe_dump({**jobs, "scrape_configs": [*jobs["scrape_configs"], job]}))
    cluster.restart("prometheus")
    return cluster.prometheus_url


def replicas(chat: Kubectl) -> int:
    found = chat.get("deployment", "chat-prefill")
    assert found is not None
    return int(found["spec"]["replicas"])


async def offer_until(load: LoadGenerator, phase: Phase, what: str, seen: Callable[[], bool], timeout_s: float) -> None:
    """The phase until something is seen, decided and scraped."""
    stop = asyncio.Event()
    offered = asyncio.create_task(load.run_phase(phase, stop))
    try:
        await asyncio.to_thread(wait_for, what, seen, timeout_s)
        await asyncio.sleep(SCRAPED_S)
    finally:
        stop.set()
        await offered


async def offer(chat: Kubectl, model: Path) -> Object:
    """Quiet, a burst until prefill has grown, quiet until it is one engine again; what became of the requests."""
    service = chat.get("service", "chat")
    assert service is not None
    prompts = PromptMaker(tokenizer_of(model), seed=5)
    async with LoadGenerator(f"http://{service['spec']['clusterIP']}", "tiny", prompts, max_in_flight=600) as load:
        await load.run_phase(QUIET)
        await offer_until(load, BURST, "prefill to grow", lambda: replicas(chat) >= 2, GROWN_S)
        await offer_until(load, REST, "prefill to be one engine", lambda: replicas(chat) == 1, SETTLED_S)
        assert await load.finish(timeout_s=120) == 0
        return summarise(load.results)


@pytest.fixture(scope="module")
def run(kubectl: Kubectl, scraped: str, model: Path) -> Iterator[tuple[float, float]]:
    """The first and the last second of the load."""
    kubectl.run("create", "namespace", "replayed")
    chat = kubectl.in_namespace("replayed")
    source = {"source": f"file://{model}", "servedName": "tiny"}
    chat.apply(service_on_standin(model, model=source, engine=SLOW, slo={"ttft": "2s", "tpot": "1s", "percentile": 90}))
    ready(chat)
    time.sleep(SCRAPED_S)
    start = time.time()
    summary = asyncio.run(offer(chat, model))
    assert summary["ok"] >= 0.9 * summary["sent"], summary["errors"]  # what becomes of each is another scenario's
    yield start, time.time()
    kubectl.run("delete", "namespace", "replayed", "--wait=false")


def replay(url: str, run: tuple[float, float], out: Path, *more: str) -> tuple[str, Any]:
    """What `headrace replay --from prometheus` says of the run, and its JSON."""
    start, end = (str(int(moment)) for moment in run)
    text = headrace(
        "replay", "--from", "prometheus", "--url", url, "--service", "replayed/chat", "--start", start, "--end", end,
        "--step", f"{TICK_S}s", "--json", str(out), *more,
    )  # fmt: skip
    return text, json.loads(out.read_text())


def test_decisions_from_prometheus_agree_with_those_that_were_taken(
    run: tuple[float, float], scraped: str, tmp_path: Path
) -> None:
    picture = tmp_path / "replay.svg"
    text, found = replay(scraped, run, tmp_path / "out.json", "--plot", str(picture))
    print(text)
    assert "APPROXIMATE" in text
    agreement = found["agreement"]["replayed/chat"]
    rows = [row["prefill"] for row in found["services"]["replayed/chat"]["rows"]]
    assert len(rows) >= 0.9 * (run[1] - run[0]) / TICK_S
    assert max(row["recorded"] for row in rows) >= 2
    assert max(row["replayed"] for row in rows) >= 2
    assert rows[-1]["replayed"] == rows[-1]["recorded"] == 1
    assert agreement["prefill"]["within_one"] >= 0.9
    assert agreement["decode"]["within_one"] >= 0.95
    assert "Prefill replicas" in picture.read_text()


def test_a_bound_that_was_not_there_is_replayed_on_the_same_scrapes(
    run: tuple[float, float], scraped: str, tmp_path: Path
) -> None:
    text, found = replay(scraped, run, tmp_path / "out.json", "--set", "prefill.max=1")
    rows = [row["prefill"] for row in found["services"]["replayed/chat"]["rows"]]
    assert {row["replayed"] for row in rows} == {1}
    assert "prefill would have been 1 where it was 2" in text


def test_the_log_of_the_same_run_is_replayed_exactly(
    run: tuple[float, float], module_operator: OperatorProcess
) -> None:
    log = module_operator.settings["HEADRACE_DECISION_LOG_DIR"]
    assert "every decision comes out as recorded" in headrace("replay", str(log), "--service", "replayed/chat")
