"""Range queries over a real socket, from recorded answers: tables of columns, parts of long spans, plain errors."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from headrace_fakes.recordings import answers_of, driven_recording
from typer.testing import CliRunner

from headrace.cli import app
from headrace.loops.keys import Key
from headrace.prom import history as module
from headrace.prom.client import PrometheusDownError
from headrace.prom.history import MissingSeriesError, PrometheusHistory, Span
from headrace.prom.range_queries import engine_queries, operator_queries, service_queries

CHAT = Key("default", "chat")
QUERIES = {**engine_queries(CHAT), **operator_queries(CHAT), **service_queries(CHAT)}


class Prometheus:
    """Answers range queries from series by figure: [{"metric": labels, "values": [[at, "value"], ...]}, ...]."""

    def __init__(self, answers: dict[str, list[Any]]) -> None:
        self.answers = {QUERIES[figure].text: series for figure, series in answers.items()}
        self.asked: list[dict[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                outer.asked.append(query)
                start, end = float(query["start"]), float(query["end"])
                found = [
                    {"metric": s["metric"], "values": [point for point in s["values"] if start <= point[0] <= end]}
                    for s in outer.answers.get(query["query"], [])
                ]
                result = [series for series in found if series["values"]]
                body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def recorded() -> Any:
    """A service under a burst, scraped every 5 s."""
    return driven_recording(ticks=120, scrape_s=5.0)


@pytest.fixture
def prometheus(recorded: Any) -> Iterator[Prometheus]:
    fake = Prometheus(answers_of(recorded))
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def span_of(recorded: Any) -> Span:
    return Span(int(recorded.ticks[0]), int(recorded.ticks[-1]), 5)


def test_answers_become_the_recording_that_they_were_made_of(prometheus: Prometheus, recorded: Any) -> None:
    found = PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))
    assert found.ticks == tuple(recorded.ticks)
    assert {name: table for name, table in found.engines.items() if table} == recorded.engines
    assert found.own == recorded.own
    assert {query["step"] for query in prometheus.asked} == {"5s"}
    assert len(prometheus.asked) == len(QUERIES)


def test_a_long_span_is_asked_for_in_parts_that_prometheus_allows(
    prometheus: Prometheus, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POINTS", 50)
    found = PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))
    assert found.own == recorded.own
    assert len(prometheus.asked) == 3 * len(QUERIES)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("running_requests", "Prometheus has no sglang:num_running_reqs between 1970-01-12 13:46:45 and"),
        ("arrivals", "headrace_engine_arrivals_total"),
        ("target", "headrace_target_replicas"),
        ("limit", r"headrace_limit between .* Scrape /metrics on port 8081 of the operator's pods"),
    ],
)
def test_a_series_that_is_missing_is_named_with_the_mend(
    prometheus: Prometheus, recorded: Any, figure: str, message: str
) -> None:
    del prometheus.answers[QUERIES[figure].text]
    with pytest.raises(MissingSeriesError, match=message):
        PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))


def test_engines_that_count_no_arrivals_are_told(prometheus: Prometheus, recorded: Any) -> None:
    del prometheus.answers[QUERIES["queued_tokens"].text]
    with pytest.raises(MissingSeriesError, match="neither headrace_engine_queued_tokens nor sglang:realtime_tokens"):
        PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))


def test_values_that_are_no_numbers_are_left_out(prometheus: Prometheus, recorded: Any) -> None:
    (series, *_) = prometheus.answers[QUERIES["target"].text]
    series["values"] = [[at, "NaN" if i == 0 else value] for i, (at, value) in enumerate(series["values"])]
    found = PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))
    assert recorded.ticks[0] not in found.own["target"][series["metric"]["role"]]


def test_refusal_malformed_answer_and_silence_are_told(prometheus: Prometheus, recorded: Any) -> None:
    prometheus.status = 422
    with pytest.raises(PrometheusDownError, match="refused a query"):
        PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))
    prometheus.status = 200
    prometheus.answers[QUERIES["running_requests"].text][0]["metric"] = {}
    with pytest.raises(PrometheusDownError, match="malformed answer for sglang:num_running_reqs"):
        PrometheusHistory(prometheus.url).record(CHAT, span_of(recorded))
    with pytest.raises(PrometheusDownError, match="can't be reached"):
        PrometheusHistory("http://127.0.0.1:1").record(CHAT, span_of(recorded))


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["replay", "--from", "prometheus", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_shows_both_targets_and_says_that_it_is_approximate(
    prometheus: Prometheus, recorded: Any, tmp_path: Any
) -> None:
    start, end, out = recorded.ticks[20], recorded.ticks[-1], tmp_path / "out.json"
    arguments = ("--url", prometheus.url, "--service", "default/chat", "--start", start, "--end", end, "--json", out)
    status, text = call(*arguments)
    assert status == 0
    assert "default/chat: 100 ticks from 1970-01-12 13:48:25 UTC" in text
    assert "APPROXIMATE" in text
    assert "lengths of single requests" in text
    assert "prefill: the same target in" in text
    found = json.loads(out.read_text())
    assert found["approximate"]
    assert not found["changed"]
    assert found["agreement"]["default/chat"]["prefill"]["within_one"] >= 0.95


def test_the_command_with_a_change_says_first_what_it_makes_of_the_recording(
    prometheus: Prometheus, recorded: Any
) -> None:
    arguments = ("--url", prometheus.url, "--service", "default/chat", "--start", recorded.ticks[20])
    status, text = call(*arguments, "--end", recorded.ticks[-1], "--set", "prefill.max=2")
    assert status == 0
    assert text.index("Without the change it decides as the operator did:") < text.index("replica-hours")
    assert "An estimate" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--service", "default/chat"), "needs its address"),
        (("--url", "http://x", "--service", "chat"), "NAMESPACE/NAME"),
        (("--url", "http://x", "--service", 'default/chat"}'), "NAMESPACE/NAME"),
        (("--url", "http://x", "--service", "a/b", "--step", "100ms"), "whole seconds"),
        (("--url", "http://x", "--service", "a/b", "--start", "yesterday"), '"yesterday" is not a time'),
        (("--url", "http://x", "--service", "a/b", "--start", "-1h", "--end", "-2h"), "must be later than --start"),
        (("--url", "http://127.0.0.1:1", "--service", "a/b"), "can't be reached"),
    ],
)
def test_what_does_not_work_ends_with_status_2_and_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    status, text = call(*arguments)
    assert status == 2
    assert message in " ".join(text.replace("│", " ").split())
