"""Replay: the same decisions from the log, and other ones where something was changed."""

from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType
from typing import Any

import orjson
import pytest

from headrace.api.roles import Role
from headrace.autoscaler import plan as planning
from headrace.autoscaler import replay as replaying
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.memory import Memory
from headrace.autoscaler.replay import Change, Entry, Tick, compare, first_difference, from_line, replay, to_line
from headrace.loops import autoscale
from headrace.simulator import headrace_policy


def logged(run: Iterable[Tick], begins: set[int] | None = None) -> list[Entry]:
    """The entries as read back from a log that carries the memory at the given ticks."""
    begins = begins if begins is not None else {0}
    lines = [to_line(tick, index in begins) for index, tick in enumerate(run)]
    return [from_line(orjson.loads(orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS))) for line in lines]


def decisions(entries: Iterable[Entry], change: Change | None = None) -> list[Decision]:
    found = [step.decision for step in replay(entries, change)]
    assert None not in found
    return [decision for decision in found if decision is not None]


def targets(made: Iterable[Decision], role: Role = Role.PREFILL) -> list[int]:
    return [decision.targets()[role].replicas for decision in made]


@pytest.mark.parametrize("user", [autoscale, headrace_policy, replaying], ids=["operator", "simulator", "replay"])
def test_operator_simulator_and_replay_decide_with_one_function(user: ModuleType) -> None:
    assert vars(user)["plan"] is planning.plan


def test_the_recorded_run_has_something_to_reproduce(run: list[Tick]) -> None:
    asked = targets(tick.plan.decision for tick in run)
    assert max(asked) >= 3
    assert asked[-1] < max(asked)


def test_without_a_change_every_decision_comes_out_as_recorded(run: list[Tick]) -> None:
    assert decisions(logged(run)) == [tick.plan.decision for tick in run]
    assert [compare(step) for step in replay(logged(run))] == [None] * len(run)


@pytest.mark.parametrize("fleet", [{"lossy": True}, {"engine_state": False}, {"engine_state": False, "lossy": True}])
def test_silent_pods_and_stock_engines_are_replayed_exactly_too(driven: Any, fleet: dict[str, bool]) -> None:
    ticks = driven(100, **fleet)
    entries = logged(ticks, {0, 50})
    assert decisions(entries) == [tick.plan.decision for tick in ticks]
    assert decisions(entries[50:]) == [tick.plan.decision for tick in ticks[50:]]


@pytest.mark.parametrize("start", [1, 60, 120])
def test_a_replay_can_start_at_any_line_that_carries_the_memory(run: list[Tick], start: int) -> None:
    assert decisions(logged(run[start:])) == [tick.plan.decision for tick in run[start:]]


def test_memory_and_model_survive_json(run: list[Tick]) -> None:
    for tick in run[::40]:
        begin = logged([tick])[0].begin
        assert begin is not None
        assert begin == (tick.memory, tick.model)
        assert isinstance(begin[0], Memory)
        assert isinstance(begin[1], CapacityModel)


def test_ticks_behind_a_gap_are_left_out_until_the_memory_is_known_again(run: list[Tick]) -> None:
    entries = logged(run, {0, 50})
    steps = list(replay(entries[:30] + entries[31:]))
    assert [index for index, step in enumerate(steps) if step.decision is None] == list(range(30, 49))
    assert all(compare(step) is None for step in steps)


def test_a_restart_within_the_log_begins_anew(run: list[Tick]) -> None:
    steps = list(replay(logged([*run[:40], *run[100:110]], {0, 40})))
    assert all(step.decision is not None for step in steps)
    assert [compare(step) for step in steps] == [None] * 50


def test_a_file_that_goes_on_keeps_the_replays_own_memory(run: list[Tick]) -> None:
    change = Change(headroom=2.0)
    assert decisions(logged(run, {0, 40, 80, 120}), change) == decisions(logged(run), change)


def test_services_are_kept_apart(run: list[Tick]) -> None:
    def named(tick: Tick) -> Tick:
        decision = replace(tick.plan.decision, service="default/other")
        return replace(
            tick,
            signals=replace(tick.signals, service="default/other"),
            plan=replace(tick.plan, decision=decision),
        )

    woven = [part for tick in run[:60] for part in (tick, named(tick))]
    assert [compare(step) for step in replay(logged(woven, {0, 1}))] == [None] * 120


def test_a_changed_record_is_found_with_its_place(run: list[Tick]) -> None:
    entry = logged(run[:1])[0]
    record = orjson.loads(orjson.dumps(entry.recorded))
    record["roles"]["decode"]["target"]["replicas"] = 7
    (step,) = replay([replace(entry, recorded=record)])
    found = compare(step)
    assert found is not None
    assert (found.path, found.recorded, found.replayed) == ("roles.decode.target.replicas", 7, 1)


@pytest.mark.parametrize(
    ("recorded", "replayed", "path"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": [1, 2]}, {"a": (1, 2)}, None),
        ({"a": [1, 2]}, {"a": (1, 3)}, "a[1]"),
        ({"a": [1]}, {"a": [1, 2]}, "a"),
        ({}, {"b": 1}, "b"),
        ({"b": 1}, {}, "b"),
        ({"a": {"b": 1.0}}, {"a": {"b": 1.5}}, "a.b"),
    ],
)
def test_differences(recorded: Any, replayed: Any, path: str | None) -> None:
    found = first_difference(recorded, replayed)
    assert (found.path if found else None) == path


def test_a_change_that_says_what_was_recorded_changes_nothing(run: list[Tick]) -> None:
    same = Change(ttft_s=2.0, tpot_s=0.05, percentile=95.0, scale_down_window_s=60.0, most={Role.PREFILL: 8})
    assert decisions(logged(run), same) == [tick.plan.decision for tick in run]


def test_an_upper_bound_is_kept(run: list[Tick]) -> None:
    asked = targets(decisions(logged(run, set(range(0, 160, 20))), Change(most={Role.PREFILL: 2})))
    assert max(asked) == 2


def test_a_lower_bound_is_kept_all_the_way(run: list[Tick]) -> None:
    asked = targets(decisions(logged(run), Change(least={Role.DECODE: 3})), Role.DECODE)
    assert min(asked) == 3


def test_a_tighter_objective_asks_for_no_less_and_a_looser_for_no_more(run: list[Tick]) -> None:
    hours = [sum(targets(decisions(logged(run), Change(ttft_s=ttft)))) for ttft in (0.3, 2.0, 20.0)]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] > hours[-1]


@pytest.mark.parametrize(
    "change",
    [
        Change(headroom=2.0),
        Change(ttft_s=1.0),
        Change(tpot_s=0.02),
        Change(scale_down_window_s=300.0),
        Change(most={Role.PREFILL: 2}),
    ],
    ids=str,
)
def test_replayed_replica_hours_are_those_of_a_fleet_that_ran_so(run: list[Tick], driven: Any, change: Change) -> None:
    """Within a fifth, though the recorded fleet had other replicas: the same load, driven anew under the change.

    As long as the change lets no other load through. At 0.7 s of TTFT and below a second prefill engine stands by
    before the burst, and decode gets what the recorded fleet kept waiting: 542 replicas x ticks, open loop says 372.
    A rise that the recorded fleet kept up with is the next test's.
    """
    replayed = decisions(logged(run), change)
    closed = [tick.plan.decision for tick in driven(160, change.limits(run[0].limits))]
    for role in (Role.PREFILL, Role.DECODE):
        assert sum(targets(replayed, role)) == pytest.approx(sum(targets(closed, role)), rel=0.2)


def _wait_s(tick: Tick) -> float:
    """What a request that comes now waits for the prompts before it."""
    decision = tick.plan.decision
    return float(decision.inputs["backlog_s"]) / decision.roles[Role.PREFILL].serving


@pytest.mark.parametrize(
    "change",
    [Change(headroom=2.0), Change(ttft_s=0.5), Change(ttft_s=1.0), Change(tpot_s=0.02), Change(most={Role.PREFILL: 2})],
    ids=str,
)
def test_where_nothing_had_to_wait_replica_hours_are_right_for_tight_objectives_too(
    driven: Any, change: Change
) -> None:
    def rise(t: float) -> float:
        return 4.0 + 86.0 * max(min((t - 120.0) / 400.0, 1.0, (760.0 - t) / 120.0), 0.0)

    recorded: list[Tick] = driven(160, rate=rise)
    waits_s = [_wait_s(tick) for tick in recorded]
    assert max(waits_s) < recorded[0].limits.objective.ttft_s
    replayed = decisions(logged(recorded), change)
    closed = [tick.plan.decision for tick in driven(160, change.limits(recorded[0].limits), rate=rise)]
    for role in (Role.PREFILL, Role.DECODE):
        assert sum(targets(replayed, role)) == pytest.approx(sum(targets(closed, role)), rel=0.12)


def test_the_start_up_time_is_the_asked_one_from_the_first_tick(run: list[Tick]) -> None:
    change = Change(startup_s=300.0)
    for step in replay(logged(run[100:]), change):
        signals = change.signals(step.entry.signals)
        starts_s = {pod.ready_at - pod.created_at for pod in signals.pods if pod.ready_at is not None}
        assert starts_s == {300.0}
    begin = logged(run[100:])[0].begin
    assert begin is not None
    starts = [start for part in change.memory(begin[0]).roles.values() for start in part.starts_s]
    assert starts
    assert set(starts) == {300.0}


def test_another_version_of_the_log_is_refused_with_both_numbers(run: list[Tick]) -> None:
    line = to_line(run[0], begin=True) | {"version": 9}
    with pytest.raises(ValueError, match=r"version: the line has 9, this build reads 1"):
        from_line(line)
