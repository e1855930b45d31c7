"""What engines and gateways answer: aggregated over ranks, and never a zero where something is missing."""

import copy
from typing import Any

import pytest

from headrace.autoscaler.signals import ArrivalBin, FinishedRequest, RunningStream
from headrace.engines.parse import MalformedError, parse_exposition, parse_loads, parse_state, parse_workers
from headrace_engine_config.length_class import LENGTH_CLASSES

# As SGLang 0.5.23 answered, shortened.
ROW: dict[str, Any] = {
    "dp_rank": 0, "num_running_reqs": 16, "num_waiting_reqs": 2, "num_waiting_uncached_tokens": 30,
    "num_used_tokens": 1072, "max_total_num_tokens": 4096, "max_running_requests": 2048, "cache_hit_rate": 0.75,
    "total_prefill_uncached_tokens": 29547, "total_prefill_busy_us": 14631709,
    "decode_moments": [47.0, 692.0, 1378592.0, 11012.0, 19237922.0, 692.0],
    "disaggregation": {
        "mode": "null", "prefill_bootstrap_queue_reqs": 1, "prefill_inflight_queue_reqs": 2,
        "decode_prealloc_queue_reqs": 3, "decode_transfer_queue_reqs": 4, "decode_retracted_queue_reqs": 5,
    },
}  # fmt: skip
STATE: dict[str, Any] = {
    "version": 1, "at": 100.5, "role": "decode", "started_at": 1.0, "ready": True, "draining": False,
    "queued_tokens": 7, "running": [{"prompt_tokens": 10, "age_tokens": 3}], "running_total": 9,
    "arrivals": [{"at": 99, "class": 2, "count": 1, "prompt_tokens": 300, "cached_tokens": 100}],
    "finished": [{"class": 2, "prompt_tokens": 300, "output_tokens": 20, "ttft_s": 0.4, "tpot_s": 0.05}],
    "totals": {"arrivals": 11, "prompt_tokens": 1, "cached_tokens": 1, "finished": 10, "output_tokens": 1},
}  # fmt: skip


def test_one_rank() -> None:
    load = parse_loads({"loads": [ROW]})
    assert (load.running_requests, load.waiting_requests, load.used_tokens) == (16, 2, 1072)
    assert load.prefill_busy_s_total == pytest.approx(14.631709)
    assert load.decode_moments is not None
    assert load.decode_moments[0] == 47.0
    assert (load.prefill_inflight_requests, load.decode_retracted_requests) == (2, 5)


def test_data_parallel_ranks_add_up_and_busy_time_is_their_mean() -> None:
    load = parse_loads({"loads": [ROW, {**ROW, "dp_rank": 1, "num_running_reqs": 4}]})
    assert (load.running_requests, load.max_total_tokens) == (20, 8192)
    assert load.prefill_busy_s_total == pytest.approx(14.631709)
    assert load.prefill_uncached_tokens_total == 2 * 29547


def test_ranks_that_do_the_same_work_count_once() -> None:
    """Two data-parallel ranks of two tensor-parallel ranks each, one pair caught between two steps."""
    rows = [
        {**ROW, "dp_rank": 0, "tp_rank": 0},
        {**ROW, "dp_rank": 0, "tp_rank": 1, "num_running_reqs": 17, "num_used_tokens": 1100},
        {**ROW, "dp_rank": 1, "tp_rank": 0, "num_running_reqs": 4},
        {**ROW, "dp_rank": 1, "tp_rank": 1, "num_running_reqs": 4},
    ]
    load = parse_loads({"loads": rows})
    assert (load.running_requests, load.used_tokens, load.max_total_tokens) == (17 + 4, 1100 + 1072, 8192)
    assert load.prefill_uncached_tokens_total == 2 * 29547


def test_the_all_zero_row_of_a_scheduler_that_has_not_begun_is_no_idle_engine() -> None:
    zero = {key: 0 for key, value in ROW.items() if isinstance(value, int)}
    with pytest.raises(MalformedError, match="published nothing yet"):
        parse_loads({"version": "0.5.23", "loads": [zero]})


# requests running, seconds from each rank's snapshot to the answer -> lag
LAGS: dict[str, tuple[int, list[float | None], float]] = {
    "of the oldest rank": (16, [0.4, 73.0], 73.0),
    "an idle engine writes none": (0, [600.0], 0.0),
    "times that the engine does not tell": (16, [None], 0.0),
    "a snapshot from the future": (16, [-3.0], 0.0),
}


@pytest.mark.parametrize("case", LAGS)
def test_the_figures_of_a_busy_engine_are_as_old_as_its_schedulers_last_word(case: str) -> None:
    running, ages_s, lag_s = LAGS[case]
    row = {**ROW, "num_running_reqs": running, "num_waiting_reqs": 0}
    rows = [
        {**row, "dp_rank": rank, **({} if age is None else {"timestamp": 1_795_339_066.0 - age})}
        for rank, age in enumerate(ages_s)
    ]
    answer = {"timestamp": "2026-11-22T09:17:46.000000+00:00", "version": "0.5.23", "loads": rows}
    assert parse_loads(answer).lag_s == pytest.approx(lag_s)


# version, mode -> fields that are not known though the row has a number for them
DEAD: dict[str, tuple[str | None, str, set[str]]] = {
    "the newest": ("0.5.23", "null", set()),
    "every decode report resets the hit rate": ("0.5.19", "null", {"cache_hit_rate"}),
    "prefill alone never had that": ("0.5.19", "prefill", set()),
    "a decode engine prefills nothing": (
        "0.5.23",
        "decode",
        {"cache_hit_rate", "waiting_uncached_tokens", "prefill_uncached_tokens_total", "prefill_busy_s_total"},
    ),
    "a release after the newest is read like it": ("0.7.1", "null", set()),
    "one before the oldest too": ("0.5.2", "null", {"cache_hit_rate"}),
    "no version": (None, "null", set()),
}


@pytest.mark.parametrize("case", DEAD)
def test_a_figure_that_is_dead_in_the_engines_release_is_not_known_rather_than_zero(case: str) -> None:
    version, mode, unknown = DEAD[case]
    row = {**ROW, "disaggregation": {**ROW["disaggregation"], "mode": mode}}
    load = parse_loads({"version": version, "loads": [row]})
    optional = ("cache_hit_rate", "waiting_uncached_tokens", "prefill_uncached_tokens_total", "prefill_busy_s_total")
    assert {field for field in optional if getattr(load, field) is None} == unknown


@pytest.mark.parametrize(
    ("version", "name"), [("0.5.11", "prefill_prealloc_queue_reqs"), ("0.5.12", "prefill_bootstrap_queue_reqs")]
)
def test_the_prefill_queue_is_read_by_its_name_in_the_engines_release(version: str, name: str) -> None:
    row = {**ROW, "disaggregation": {"mode": "prefill", name: 7}}
    assert parse_loads({"version": version, "loads": [row]}).prefill_bootstrap_requests == 7


@pytest.mark.parametrize(
    ("told", "read_as"),
    [("0.5.23", ""), ("0.5.23.post1", ""), ("v0.5.14rc2", ""), ("0.5.24", "0.5.23"), ("1.0.0", "0.5.23"),
     ("0.5.2", "0.5.8"), ("0.0.0.dev0", "0.5.23"), ("main", "0.5.23"), ("", "0.5.23")],
)  # fmt: skip
def test_an_unknown_release_is_read_like_the_nearest_known_one_and_says_so(told: str, read_as: str) -> None:
    load = parse_loads({"version": told, "loads": [ROW]})
    assert (load.engine_version, load.read_as) == (told, read_as)


def test_optional_sums_that_an_engine_lacks_are_not_known_rather_than_zero() -> None:
    row = {k: v for k, v in ROW.items() if k not in {"decode_moments", "total_prefill_busy_us", "cache_hit_rate"}}
    load = parse_loads({"loads": [row]})
    assert (load.decode_moments, load.prefill_busy_s_total, load.cache_hit_rate) == (None, None, None)


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, {"loads": []}, {"loads": [None]}, {"loads": "x"}, {"error": "starting"},
        {"loads": [{k: v for k, v in ROW.items() if k != "num_running_reqs"}]},
        {"loads": [{**ROW, "num_used_tokens": "many"}]}, {"loads": [{**ROW, "num_waiting_reqs": -1}]},
        {"loads": [{**ROW, "num_running_reqs": None}]},
    ],
)  # fmt: skip
def test_malformed_loads_are_an_error_never_a_zero(answer: Any) -> None:
    with pytest.raises(MalformedError):
        parse_loads(answer)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(MalformedError, match="num_running_reqs"):
        parse_loads({"loads": [{k: v for k, v in ROW.items() if k != "num_running_reqs"}]})


def test_state() -> None:
    state = parse_state(STATE)
    assert (state.at, state.queued_tokens, state.running_total, state.finished_total) == (100.5, 7, 9, 10)
    assert state.running == (RunningStream(10, 3),)
    assert state.arrivals == (ArrivalBin(99, 2, 1, 300, 100),)
    assert state.finished == (FinishedRequest(2, 300, 20, 0.4, 0.05),)


@pytest.mark.parametrize("waits", [{}, {"ttft_s": None, "tpot_s": None}])
def test_waits_that_an_engine_does_not_tell_are_not_known_rather_than_zero(waits: dict[str, None]) -> None:
    row = {"class": 2, "prompt_tokens": 300, "output_tokens": 20, **waits}
    assert parse_state({**STATE, "finished": [row]}).finished == (FinishedRequest(2, 300, 20, None, None),)


@pytest.mark.parametrize("missing", ["version", "at", "started_at", "queued_tokens", "running", "arrivals", "finished"])
def test_a_state_without_a_field_is_an_error(missing: str) -> None:
    answer = copy.deepcopy(STATE)
    del answer[missing]
    with pytest.raises(MalformedError, match=missing):
        parse_state(answer)


def test_a_state_of_another_version_is_an_error() -> None:
    with pytest.raises(MalformedError, match="version 2"):
        parse_state({**STATE, "version": 2})


@pytest.mark.parametrize("kind", [-1, LENGTH_CLASSES])
@pytest.mark.parametrize("field", ["arrivals", "finished"])
def test_a_length_class_that_does_not_exist_is_an_error(field: str, kind: int) -> None:
    row = {**STATE[field][0], "class": kind}
    with pytest.raises(MalformedError, match=rf"length class {kind} is not within 0\.\.11"):
        parse_state({**STATE, field: [row]})


@pytest.mark.parametrize("field", ["at", "started_at"])
def test_a_time_that_is_none_is_an_error(field: str) -> None:
    with pytest.raises(MalformedError, match="nan is no time"):
        parse_state({**STATE, field: float("nan")})


def test_workers_by_host() -> None:
    answer = {"workers": [{"url": "http://10.0.0.1:30000"}, {"url": "http://10.0.0.2:30000@1"}]}
    assert parse_workers(answer) == {"10.0.0.1", "10.0.0.2"}
    assert parse_workers({"workers": []}) == frozenset()


@pytest.mark.parametrize("answer", [None, {}, {"workers": [{}]}, {"workers": [{"url": "nonsense"}]}, "x"])
def test_a_malformed_worker_list_is_not_an_empty_one(answer: Any) -> None:
    with pytest.raises(MalformedError):
        parse_workers(answer)


def test_exposition_sums_series_and_leaves_absent_metrics_out() -> None:
    text = '# TYPE a gauge\na{x="1 2"} 3\na{x="}"} 4\nab 9\nb 1.5 1700000000\n'
    assert parse_exposition(text, ("a", "c")) == {"a": 7.0}
