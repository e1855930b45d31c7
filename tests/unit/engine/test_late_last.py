"""Late last: the rule, the file that it follows, and the stamp that goes with a request."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_engine import queue_order
from headrace_engine.queue_file import QueueFile
from headrace_engine_config.late_last import QueueConfig, put_late_last


@dataclass
class Entry:
    arrived_s: float | None
    patience_s: float = 1.0
    late: bool = False


def ordered(*entries: Entry) -> list[float | None]:
    queue = list(entries)
    put_late_last(queue, lambda entry: entry)
    return [entry.arrived_s for entry in queue]


@pytest.mark.parametrize(
    ("entries", "order"),
    [
        ([], []),
        ([Entry(0.0), Entry(1.0)], [0.0, 1.0]),  # just in time
        ([Entry(0.0), Entry(0.5), Entry(1.2)], [0.5, 1.2, 0.0]),
        ([Entry(0.0), Entry(0.1), Entry(9.0)], [9.0, 0.0, 0.1]),  # late ones in order of arrival
        ([Entry(0.0, patience_s=math.inf), Entry(9.0)], [0.0, 9.0]),
        ([Entry(None), Entry(0.0), Entry(9.0)], [None, 9.0, 0.0]),  # not stamped: never late
        ([Entry(None), Entry(None)], [None, None]),
        ([Entry(9.0), Entry(0.0), Entry(0.5)], [9.0, 0.0, 0.5]),  # SGLang's own order within each part
        ([Entry(0.0, late=True), Entry(0.5)], [0.5, 0.0]),  # found late before
    ],
)
def test_what_waited_longer_than_its_patience_when_the_newest_came_goes_last(
    entries: list[Entry], order: list[float | None]
) -> None:
    assert ordered(*entries) == order


@given(st.lists(st.tuples(st.floats(0, 1e10), st.floats(0, 100)), max_size=30))
def test_ordering_loses_nobody_and_twice_is_once(stamps: list[tuple[float, float]]) -> None:
    queue = [Entry(arrived, patience) for arrived, patience in stamps]
    put_late_last(queue, lambda entry: entry)
    once = list(queue)
    put_late_last(queue, lambda entry: entry)
    assert queue == once
    assert sorted((entry.arrived_s or 0.0, entry.patience_s) for entry in queue) == sorted(stamps)
    assert [entry.late for entry in queue] == sorted(entry.late for entry in queue)


@pytest.mark.parametrize(
    ("role", "prompt_tokens", "patience_s"),
    [("prefill", 100, 1.0), ("worker", 100, 1.0), ("decode", 100, 0.5), ("prefill", 8000, 2.0), ("decode", 8000, 1.0)],
)
def test_patience_is_a_share_of_the_prompts_objective(role: str, prompt_tokens: int, patience_s: float) -> None:
    config = QueueConfig(ttft_seconds=2.0, ttft_per_1k_prompt_seconds=0.5)
    assert config.patience_s(role, prompt_tokens) == patience_s
    assert config.model_copy(update={"order": "Arrival"}).patience_s(role, prompt_tokens) == math.inf


def test_a_changed_file_counts_at_the_next_look_and_a_bad_one_leaves_the_last_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "queue.json"
    file = QueueFile(path)
    assert file.current(0.0) is None
    path.write_text(json.dumps({"ttftSeconds": 2.0, "ttftPer1kPromptSeconds": 0.5}))
    assert file.current(0.5) is None  # looked a moment ago
    assert file.current(1.0) == QueueConfig(ttft_seconds=2.0, ttft_per_1k_prompt_seconds=0.5)
    path.write_text('{"ttftSeconds": -1}')
    assert file.current(2.0) == QueueConfig(ttft_seconds=2.0, ttft_per_1k_prompt_seconds=0.5)
    assert "ttftSeconds" in caplog.text
    path.unlink()
    assert file.current(3.0) is None


def test_without_a_path_there_is_no_file() -> None:
    assert QueueFile(None).current(0.0) is None


def stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str = "prefill") -> Any:
    path = tmp_path / "queue.json"
    path.write_text('{"ttftSeconds": 2.0}')
    monkeypatch.setenv(queue_order.QUEUE_VARIABLE, str(path))
    tokenized = SimpleNamespace(input_ids=[1, 2, 3], time_stats=SimpleNamespace())
    queue_order.Stamper(role).stamp(tokenized, 100.0)
    return tokenized.time_stats


def test_a_request_is_stamped_and_sent_along_with_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = queue_order._send_along({"trace": 1}, stamped(tmp_path, monkeypatch, "decode"))
    assert sent == {"trace": 1, queue_order.ARRIVED: 100.0, queue_order.PATIENCE: 0.5}
    assert queue_order._send_along({"trace": 1}, SimpleNamespace()) == {"trace": 1}
    assert not any(name.endswith("time") for name in sent)  # SGLang would convert it


def test_without_a_file_nothing_is_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(queue_order.QUEUE_VARIABLE, raising=False)
    tokenized = SimpleNamespace(input_ids=[1], time_stats=SimpleNamespace())
    queue_order.Stamper("worker").stamp(tokenized, 100.0)
    assert vars(tokenized.time_stats) == {}


def request(arrived: float | None, output: list[int] | None = None) -> Any:
    stats = SimpleNamespace(**{queue_order.ARRIVED: arrived, queue_order.PATIENCE: 1.0})
    return SimpleNamespace(output_ids=output or [], time_stats=stats, arrived=arrived)


def test_the_schedulers_queue_is_ordered_but_not_what_has_its_first_token() -> None:
    queue = [request(0.0, [7]), request(1.0), request(5.0)]
    queue_order._order_waiting(None, SimpleNamespace(enable_priority_scheduling=False), queue, None, processed_tokens=3)
    assert [each.arrived for each in queue] == [0.0, 5.0, 1.0]


def test_a_decode_engines_preallocation_is_ordered_in_place() -> None:
    entries = [SimpleNamespace(req=request(at)) for at in (0.0, 5.0)]
    scheduler = SimpleNamespace(enable_priority_scheduling=False)
    queue_order._order_preallocation(SimpleNamespace(queue=entries, scheduler=scheduler))
    assert [entry.req.arrived for entry in entries] == [5.0, 0.0]


def test_clients_priorities_rule_where_they_are_switched_on() -> None:
    queue = [request(0.0), request(5.0)]
    queue_order._order_waiting(None, SimpleNamespace(enable_priority_scheduling=True), queue)
    entries = [SimpleNamespace(req=each) for each in queue]
    scheduler = SimpleNamespace(enable_priority_scheduling=True)
    queue_order._order_preallocation(SimpleNamespace(queue=entries, scheduler=scheduler))
    assert [each.arrived for each in queue] == [entry.req.arrived for entry in entries] == [0.0, 5.0]
