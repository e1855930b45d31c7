"""Prometheus over a real socket: joined into samples, slow and broken answers as one error with the reason."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from headrace.prom import client as module
from headrace.prom.client import PrometheusClient, PrometheusDownError, join, vector
from headrace.prom.queries import LOAD, SCRAPED_AT

POD = ("default", "chat-decode-1")


def series(value: str, pod: str = "chat-decode-1") -> dict[str, Any]:
    return {"metric": {"namespace": "default", "pod": pod}, "value": [1700000000.0, value]}


class Prometheus:
    """Answers instant queries from a table; `fail` answers everything with a status."""

    def __init__(self) -> None:
        self.answers = {query: [series("2")] for query in LOAD.values()} | {SCRAPED_AT: [series("1700000000.5")]}
        self.fail: list[int] = []
        self.queries: list[str] = []
        self.threads: set[str] = set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                outer.queries.append(query)
                status = outer.fail.pop(0) if outer.fail else 200
                body = json.dumps({"status": "success", "data": {"result": outer.answers.get(query, [])}}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    fake = Prometheus()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


async def test_one_query_a_signal_makes_a_sample_of_every_pod(prometheus: Prometheus) -> None:
    client = PrometheusClient(prometheus.url)
    loads = await client.loads()
    client.close()
    assert loads[POD].at == 1700000000.5
    assert loads[POD].load.running_requests == 2
    assert len(prometheus.queries) == len(LOAD) + 1


async def test_one_failure_is_tried_again_and_two_are_told(prometheus: Prometheus) -> None:
    client = PrometheusClient(prometheus.url)
    prometheus.fail = [503]
    assert POD in await client.loads()
    prometheus.fail = [400, 400]
    with pytest.raises(PrometheusDownError, match="refused a query"):
        await client.loads()
    client.close()


async def test_an_unreachable_prometheus_is_told() -> None:
    client = PrometheusClient("http://127.0.0.1:1")
    with pytest.raises(PrometheusDownError, match="can't be reached"):
        await client.loads()
    client.close()


async def test_a_hanging_prometheus_is_told_within_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # accepts in its backlog, never answers
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    client = PrometheusClient(f"http://127.0.0.1:{silent.server_port}")
    with pytest.raises(PrometheusDownError, match="did not answer"):
        await client.loads()
    client.close()
    silent.server_close()


async def test_a_malformed_answer_is_told(prometheus: Prometheus) -> None:
    prometheus.answers[SCRAPED_AT] = [{"metric": {}, "value": [0, "1"]}]
    client = PrometheusClient(prometheus.url)
    with pytest.raises(PrometheusDownError, match="malformed"):
        await client.loads()
    client.close()


def test_nan_is_left_out_and_a_pod_without_a_required_figure_has_no_sample() -> None:
    assert vector([series("NaN"), series("1", "other"), series("+Inf", "third")]) == {("default", "other"): 1.0}
    columns = {field: {POD: 1.0} for field in LOAD}
    assert POD in join({POD: 5.0}, columns)
    assert join({POD: 5.0}, {**columns, "used_tokens": {}}) == {}
    assert join({}, columns) == {}


def test_both_spellings_of_the_engines_metrics_are_matched() -> None:
    assert all("sglang[:_]" in query for query in (*LOAD.values(), SCRAPED_AT))
