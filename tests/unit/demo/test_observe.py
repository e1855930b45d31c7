"""What the demo reads from the API server and Prometheus."""

from typing import Any

import pytest

from e2e.demo.observe import ENGINE_QUERY, count_pods, engine_signals, latest_decision, recent_decisions
from e2e.demo.record import EngineSignals, RoleCount
from e2e.support.kubectl import is_true


def pod(
    role: str, *, ready: bool = True, state: str = "serving", phase: str = "Running", **metadata: Any
) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"headrace.dev/role": role, "headrace.dev/state": state}, **metadata},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def test_pods_are_counted_by_role_and_state() -> None:
    pods = [
        pod("prefill"),
        pod("prefill", ready=False, phase="Pending"),
        pod("prefill", state="draining"),
        pod("decode", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("decode", phase="Failed", ready=False),
        pod("gateway"),
        {"metadata": {}},
    ]
    assert count_pods(pods) == {"prefill": RoleCount(1, 1, 1), "decode": RoleCount(0, 0, 1)}


def series(name: str, role: str, value: str) -> dict[str, Any]:
    return {"metric": {"__name__": name, "role": role, "pod": "p"}, "value": [0, value]}


def test_signals_are_summed_or_averaged_over_pods_with_either_metric_name() -> None:
    vector = [
        series("sglang:num_queue_reqs", "prefill", "3"),
        series("sglang_num_queue_reqs", "prefill", "2"),
        series("sglang:num_prefill_bootstrap_queue_reqs", "prefill", "1"),
        series("sglang:token_usage", "decode", "0.5"),
        series("sglang:token_usage", "decode", "0.25"),
    ]
    assert engine_signals({"data": {"result": vector}}) == {
        "prefill": EngineSignals(waiting_requests=6.0),
        "decode": EngineSignals(kv_share=0.375),
    }


def test_the_query_asks_for_every_figure_of_one_service() -> None:
    query = ENGINE_QUERY.format(service="chat")
    assert query.startswith('{__name__=~"sglang[:_](num_queue_reqs|')
    assert query.endswith('|token_usage)",service="chat"}')


def test_missing_series_are_unknown_and_not_zero() -> None:
    assert engine_signals({})["decode"] == EngineSignals(None, None, None)


def test_decisions_are_read_from_the_status() -> None:
    part = {
        "current": 2,
        "target": 2,
        "reason": "Held",
        "binding": "DecodeKV",
        "message": "m",
        "vetoes": [{"guard": "Window", "message": "held for 10 s"}],
    }
    change = {"at": "t1", "role": "decode", "fromReplicas": 1, "toReplicas": 2, "reason": "ScaleUp", "message": "grew"}
    service = {"status": {"decision": {"at": "t2", "decode": part}, "recentDecisions": [change]}}
    latest = latest_decision(service)["decode"]
    assert (latest.target, latest.reason, latest.vetoes) == (2, "Held", ("Window: held for 10 s",))
    (row,) = recent_decisions(service)
    assert (row.at, row.role, row.current, row.target, row.message) == ("t1", "decode", 1, 2, "grew")


def test_a_service_without_status_has_no_decision() -> None:
    assert latest_decision({}) == {}
    assert recent_decisions({}) == []


@pytest.mark.parametrize("status", [None, {}, {"conditions": None}, {"conditions": []}])
def test_an_object_so_new_that_it_has_no_conditions_meets_none(status: Any) -> None:
    assert not is_true({"status": status}, "Established")
