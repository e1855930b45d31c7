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
from headrace_engine_config.late_last import QueueConfig, Stamp, put_late_last


@dataclass
class Entry:
    """One that waits; without a time it has no stamp."""

    arrived_s: float | None
    patience_s: float = 1.0
    late: bool = False
    stamp: Stamp | None = None

    def __post_init__(self) -> None:
        if self.arrived_s is not None:
            self.stamp = Stamp(self.arrived_s, self.patience_s, self.late)


def ordered(*entries: Entry) -> list[float | None]:
    queue = list(entries)
    put_late_last(queue, lambda entry: entry.stamp)
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
        ([Entry(2.0), Entry(0.0, late=True), Entry(4.0)], [4.0, 0.0, 2.0]),  # and before what is found late now
    ],
)
def test_what_waited_longer_than_its_patience_when_the_newest_came_goes_last(
    entries: list[Entry], order: list[float | None]
) -> None:
    assert ordered(*entries) == order


STAMPS = st.lists(st.none() | st.tuples(st.floats(0, 1e10), st.floats(0, 100)), max_size=30)


def entries_of(stamps: list[tuple[float, float] | None]) -> list[Entry]:
    return [Entry(None) if stamp is None else Entry(*stamp) for stamp in stamps]


@given(STAMPS)
def test_nobody_is_lost_the_late_are_in_order_of_arrival_and_the_rest_as_they_were(
    stamps: list[tuple[float, float] | None],
) -> None:
    before = entries_of(stamps)
    queue = list(before)
    put_late_last(queue, lambda entry: entry.stamp)
    late = [entry for entry in before if entry.stamp is not None and entry.stamp.late]
    late.sort(key=lambda entry: entry.arrived_s or 0.0)
    in_time = [entry for entry in before if entry.stamp is None or not entry.stamp.late]
    assert [id(entry) for entry in queue] == [id(entry) for entry in in_time + late]
    newest = max((entry.arrived_s for entry in before if entry.arrived_s is not None), default=0.0)
    assert all(newest - (entry.arrived_s or 0.0) > entry.patience_s for entry in late)
    assert all(entry.arrived_s is None or newest - entry.arrived_s <= entry.patience_s for entry in in_time)


@given(STAMPS, STAMPS, st.integers(0, 30))
def test_ranks_that_are_told_the_same_order_alike(
    first: list[tuple[float, float] | None], then: list[tuple[float, float] | None], taken: int
) -> None:
    """Also when some have been taken and others came; who is late stays so, though the newest has gone."""
    orders = []
    for _rank in range(2):
        queue = entries_of(first)
        put_late_last(queue, lambda entry: entry.stamp)
        late_before = {id(entry) for entry in queue[taken:] if entry.stamp is not None and entry.stamp.late}
        queue = queue[taken:] + entries_of(then)
        put_late_last(queue, lambda entry: entry.stamp)
        assert late_before <= {id(entry) for entry in queue if entry.stamp is not None and entry.stamp.late}
        orders.append([(entry.arrived_s, entry.patience_s) for entry in queue])
    assert orders[0] == orders[1]


@pytest.mark.parametrize(
    ("role", "prompt_tokens", "patience_s"),
    [("prefill", 100, 1.0), ("worker", 100, 1.0), ("decode", 100, 0.5), ("prefill", 8000, 2.0), ("decode", 8000, 1.0)],
)
def test_patience_is_a_share_of_the_prompts_objective(role: str, prompt_tokens: int, patience_s: float) -> None:
    config = QueueConfig(ttft_seconds=2.0, ttft_per_1k_prompt_seconds=0.5)
    assert config.patience_s(role, prompt_tokens) == patience_s
    assert config.model_copy(update={"order": "Arrival"}).patience_s(role, prompt_tokens) == math.inf


def test_a_changed_file_counts_at_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "queue.json"
    file = QueueFile(path)
    assert file.current(0.0) is None
    path.write_text(json.dumps({"ttftSeconds": 2.0, "ttftPer1kPromptSeconds": 0.5}))
    assert file.current(0.5) is None  # looked a moment ago
    assert file.current(1.0) == QueueConfig(ttft_seconds=2.0, ttft_per_1k_prompt_seconds=0.5)
    path.unlink()
    assert file.current(2.0) is None


def test_a_mounts_swapped_link_is_a_change(tmp_path: Path) -> None:
    """As the kubelet updates a ConfigMap: a file is a link into `..data`, which is swapped for another folder."""
    for name, ttft_s in (("old", 2.0), ("new", 3.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "queue.json").write_text(json.dumps({"ttftSeconds": ttft_s}))
    (tmp_path / "..data").symlink_to("old")
    path = tmp_path / "queue.json"
    path.symlink_to("..data/queue.json")
    file = QueueFile(path)
    assert file.current(0.0) == QueueConfig(ttft_seconds=2.0)
    (tmp_path / "..data_tmp").symlink_to("new")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert file.current(1.0) == QueueConfig(ttft_seconds=3.0)


UNUSABLE = {
    "a value": (b'{"ttftSeconds": -1}', "ttftSeconds: Input should be greater than 0"),
    "a missing field": (b"{}", "ttftSeconds: Field required"),
    "an unknown key": (b'{"ttftSeconds": 1, "ttft": 2}', "ttft: Extra inputs are not permitted"),
    "an unknown order": (b'{"ttftSeconds": 1, "order": "Random"}', "order: Input should be 'LateLast' or 'Arrival'"),
    "half a file": (b'{"ttftSeconds"', "not JSON"),
    "bytes": (b"\xff\xfe", "not JSON"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_file_that_cannot_be_used_leaves_the_last_order_and_says_once_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    content, said = UNUSABLE[case]
    path = tmp_path / "queue.json"
    path.write_bytes(b'{"ttftSeconds": 2}')
    file = QueueFile(path)
    file.current(0.0)
    path.write_bytes(content)
    assert [file.current(now) for now in (1.0, 2.0)] == [QueueConfig(ttft_seconds=2.0)] * 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said in line
    path.write_bytes(b'{"ttftSeconds": 3}')
    assert file.current(3.0) == QueueConfig(ttft_seconds=3.0)


def test_a_file_that_cannot_be_read_leaves_the_last_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "queue.json").mkdir()
    file = QueueFile(tmp_path / "queue.json")
    assert (file.current(0.0), file.current(1.0)) == (None, None)
    assert caplog.text.count("queue.json can't be used") == 1


def test_without_a_path_there_is_no_file() -> None:
    assert QueueFile(None).current(0.0) is None


def stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str = "prefill", content: str = '{"ttftSeconds": 2.0}'
) -> Any:
    path = tmp_path / "queue.json"
    path.write_text(content)
    monkeypatch.setenv(queue_order.QUEUE_VARIABLE, str(path))
    tokenized = SimpleNamespace(input_ids=[1, 2, 3], time_stats=SimpleNamespace(headrace_stamp=None))
    queue_order.Stamper(role).stamp(tokenized, 100.0)
    return tokenized.time_stats


def test_a_request_is_stamped_and_sent_along_with_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"trace": 1}
    queue_order._send_along(state, stamped(tmp_path, monkeypatch, "decode"))
    assert state == {"trace": 1, queue_order.STAMP: Stamp(100.0, 0.5)}
    assert not queue_order.STAMP.endswith("time")  # SGLang would convert it


def test_what_has_no_stamp_is_sent_along_as_it_is() -> None:
    state = {"trace": 1}
    queue_order._send_along(state, SimpleNamespace(headrace_stamp=None))
    assert state == {"trace": 1}


def test_in_order_of_arrival_nothing_is_stamped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stats = stamped(tmp_path, monkeypatch, content='{"order": "Arrival", "ttftSeconds": 2.0}')
    assert stats.headrace_stamp is None


def test_without_a_file_nothing_is_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(queue_order.QUEUE_VARIABLE, raising=False)
    tokenized = SimpleNamespace(input_ids=[1], time_stats=SimpleNamespace(headrace_stamp=None))
    queue_order.Stamper("worker").stamp(tokenized, 100.0)
    assert tokenized.time_stats.headrace_stamp is None


def request(arrived: float, retractions: int = 0) -> Any:
    stats = SimpleNamespace(headrace_stamp=Stamp(arrived, 1.0))
    return SimpleNamespace(retraction_count=retractions, time_stats=stats, arrived=arrived)


def test_the_schedulers_queue_is_ordered_but_not_what_was_retracted() -> None:
    queue = [request(0.0, retractions=1), request(1.0), request(5.0)]
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
