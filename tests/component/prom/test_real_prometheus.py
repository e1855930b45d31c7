"""Replay's queries on a real Prometheus: what an operator and engines expose comes back, under the labels it adds."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from headrace_fakes.fluid_fleet import FluidFleet
from prometheus_client import generate_latest

from headrace.api.pools import ScalingMode
from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.rebuild import entries
from headrace.autoscaler.recording import Recording
from headrace.autoscaler.replay import recorded_targets, replay
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace.clock import SystemClock
from headrace.loops.keys import Key
from headrace.observability.metrics import Metrics
from headrace.prom.history import MissingSeriesError, PrometheusHistory, Span
from headrace_cluster.binaries import PROMETHEUS
from headrace_cluster.layout import cache_dir

BINARY = cache_dir() / "bin" / PROMETHEUS.file_name
pytestmark = pytest.mark.skipif(not BINARY.exists(), reason=f"needs {BINARY}: `headrace-cluster up --prometheus` once")

CHAT = Key("default", "chat")
MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
LIMITS = Limits(Objective(), {Role.PREFILL: RoleLimits(1, 8), Role.DECODE: RoleLimits(1, 4)})
PODS = {"prefill": "chat-prefill-5d9f8b-aaaaa", "decode": "chat-decode-7c6b5d-bbbbb"}
# Two tensor-parallel ranks that repeat a figure, and two data-parallel ones that each have their own.
ENGINE = """
sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 3
sglang:num_running_reqs{dp_rank="0",tp_rank="1"} 3
sglang:num_running_reqs{dp_rank="1",tp_rank="0"} 4
sglang:num_queue_reqs{dp_rank="0"} 0
sglang:num_used_tokens{dp_rank="0"} 5000
sglang:max_total_num_tokens{dp_rank="0"} 400000
headrace_engine_queued_tokens 0
headrace_engine_arrivals_total 100
headrace_engine_prompt_tokens_total 100000
headrace_engine_cached_tokens_total 0
headrace_engine_finished_total 90
headrace_engine_output_tokens_total 9000
"""


def published(*, leads: bool, target: int) -> bytes:
    """/metrics of an operator."""
    metrics = Metrics()
    fleet = FluidFleet(MODEL, {Role.PREFILL: 1, Role.DECODE: 1}, rate=lambda _: 5.0)
    made = plan(fleet.signals(), MODEL, LIMITS, initial_memory(), fleet.now)
    metrics.decided.publish(CHAT, ScalingMode.INTERNAL, fleet.signals(), LIMITS, made)
    metrics.measure(CHAT, made.decision)
    metrics.decided.target.labels(*CHAT, "prefill").set(target)
    metrics.leader.set(leads)
    return generate_latest(metrics.registry)


def served(body: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Prometheus that has scraped a leading operator, its stand-by and two engines for seconds."""
    pages = {
        "leader": published(leads=True, target=2),
        "stand-by": published(leads=False, target=7),
        **dict.fromkeys(PODS.values(), ENGINE.encode()),
    }
    servers = {name: served(body) for name, body in pages.items()}
    job = partial(_job, servers)
    jobs = [
        # A Service's endpoints: the target's own labels push ours aside.
        job("operators", {"leader": {"namespace": "headrace-system", "service": "headrace-operator"}, "stand-by": {}}),
        job("engines", {pod: {"namespace": "default", "pod": pod} for pod in PODS.values()}),
    ]
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{port}"
    command = [
        str(BINARY), f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_for_samples(url, folder / "log")
            yield url
        finally:
            process.terminate()
            process.wait(20)
            for server in servers.values():
                server.shutdown()
                server.server_close()


def _job(servers: dict[str, ThreadingHTTPServer], name: str, targets: dict[str, dict[str, str]]) -> dict[str, Any]:
    groups = [
        {"targets": [f"127.0.0.1:{servers[target].server_port}"], "labels": labels}
        for target, labels in targets.items()
    ]
    return {"job_name": name, "scrape_protocols": ["PrometheusText0.0.4"], "static_configs": groups}


def wait_for_samples(url: str, log: Path) -> None:
    """Until every target was scraped four times."""
    query = "min(count_over_time(up[1m])) >= 4 and count(up) == 4"
    for _ in range(120):
        with suppress(requests.ConnectionError):
            answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=5)
            if answer.ok and answer.json()["data"]["result"]:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-2000:])


def record(url: str, service: Key = CHAT) -> Recording:
    now = int(SystemClock().now())
    return PrometheusHistory(url).record(service, Span(now - 2, now, 1))


def test_ranks_add_up_and_pods_are_told_apart(recorded: str) -> None:
    found = record(recorded)
    assert set(found.engines["scraped_at"]) == set(PODS.values())
    for pod in PODS.values():
        assert set(found.engines["running_requests"][pod].values()) == {7.0}
        assert set(found.engines["arrivals"][pod].values()) == {100.0}
        assert all(tick - 5 < at <= tick for tick, at in found.engines["scraped_at"][pod].items())


def test_only_the_leaders_numbers_count_whatever_the_scrape_calls_their_labels(recorded: str) -> None:
    found = record(recorded)
    assert set(found.own["target"]["prefill"].values()) == {2.0}
    assert set(found.own["limit"]["prefill.max"].values()) == {8.0}
    assert set(found.own["replicas"]["decode/serving"].values()) == {1.0}


def test_what_was_scraped_can_be_decided_again(recorded: str) -> None:
    steps = list(replay(entries(record(recorded))))
    assert len(steps) == 3
    for step in steps:
        assert step.decision is not None
        assert step.entry.limits == LIMITS
        assert recorded_targets(step.entry)[Role.PREFILL] == 2
        assert step.decision.health.fresh == 2


def test_a_service_that_is_not_there_is_told_by_its_first_series(recorded: str) -> None:
    with pytest.raises(MissingSeriesError, match="no sglang:num_running_reqs"):
        record(recorded, Key("default", "mail"))
