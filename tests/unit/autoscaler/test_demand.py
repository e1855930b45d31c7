"""Arrivals of several engines as one history: nobody's are lost, and nobody's are waited for."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from headrace.api.roles import Role
from headrace.autoscaler.demand import gather, reckon
from headrace.autoscaler.history import History, extend
from headrace.autoscaler.lengths import LengthLaw, moments_held
from headrace.autoscaler.memory import PodMemory
from headrace.autoscaler.signals import ArrivalBin, EngineLoad, EngineState, PodPhase, PodSample
from headrace_engine_config.length_class import LENGTH_CLASSES

FIRST = 1000  # the second of the first arrival
Read = Mapping[str, float]


def pod(name: str, at: float, phase: PodPhase = PodPhase.SERVING) -> PodSample:
    """An engine that was read at `at` by its own clock, takes a request a second from FIRST on, and remembers 120 s."""
    taken = tuple(ArrivalBin(second, 3, 1, 100, 0) for second in range(max(FIRST, int(at) - 120), int(at) + 1))
    return PodSample(name, Role.PREFILL, phase, 0.0, 0.0, at, "r1", None, EngineState(at, 0.0, 0, arrivals=taken))


def history_of(*ticks: Read, draining: str = "") -> History:
    """The history after ticks in which each engine was last read at the given time."""
    history, known = History(), dict[str, PodMemory]()
    for tick in ticks:
        pods = [pod(name, at, PodPhase.DRAINING if name == draining else PodPhase.SERVING) for name, at in tick.items()]
        rows, _, until, front = gather(pods, known, LengthLaw())
        history = extend(history, rows, front, 300)
        known = {name: replace(PodMemory(), arrivals_until=second) for name, second in until.items()}
    return history


def test_reads_that_fall_into_neighbouring_seconds_lose_no_request() -> None:
    ticks = ({"a": at + 0.9, "b": at + 1.1} for at in range(1005, 1100, 5))
    history = history_of(*ticks)
    assert (history.start, history.end) == (FIRST, 1095)
    assert history.count.tolist() == [2.0] * 95


def test_an_engine_that_was_not_read_is_taken_to_get_what_the_others_got() -> None:
    history = history_of({"a": 1005, "b": 1005, "c": 1005}, {"a": 1010, "b": 1010, "c": 1005})
    assert history.end == 1010
    assert history.count.tolist() == pytest.approx([3.0] * 10)


def test_what_was_imputed_is_not_counted_again_when_the_engine_answers() -> None:
    lost = ({"a": 1005, "b": 1005, "c": 1005}, {"a": 1010, "b": 1010, "c": 1005})
    history = history_of(*lost, {"a": 1015, "b": 1015, "c": 1015})
    assert history.count.tolist() == pytest.approx([3.0] * 15)


def test_of_two_engines_the_later_is_waited_for_as_neither_is_known_to_be_right() -> None:
    history = history_of({"a": 1005, "b": 1005}, {"a": 1010, "b": 1005})
    assert history.end == 1005
    again = history_of({"a": 1005, "b": 1005}, {"a": 1010, "b": 1005}, {"a": 1015, "b": 1015})
    assert again.count.tolist() == [2.0] * 15


@pytest.mark.parametrize("off_s", [-3600.0, 3600.0])
def test_a_clock_that_is_wrong_by_an_hour_neither_stops_the_history_nor_stretches_it(off_s: float) -> None:
    ticks = [{"a": at, "b": at, "c": at + off_s} for at in (1005, 1010, 1015)]
    history = history_of(*ticks)
    assert (history.start, history.end) == (FIRST, 1015)
    assert history.count.tolist() == pytest.approx([3.0] * 15)  # what c took is not known, and not taken for nothing


def test_a_draining_engine_that_was_not_read_gets_nothing_imputed() -> None:
    ticks = {"a": 1005, "b": 1005, "c": 1005}, {"a": 1010, "b": 1010, "c": 1005}
    assert history_of(*ticks, draining="c").count.tolist() == [3.0] * 5 + [2.0] * 5
    assert history_of(*ticks, {"a": 1015, "b": 1015, "c": 1015}, draining="c").count.tolist() == [3.0] * 15


def test_without_a_reporting_engine_there_is_no_front() -> None:
    assert gather([replace(pod("a", 1006.0), state=None)], {}, LengthLaw()) == ({}, {}, {}, None)


def test_a_request_is_priced_by_the_moments_of_what_it_holds() -> None:
    law = LengthLaw(mean=(7.0,) * LENGTH_CLASSES, square=(90.0,) * LENGTH_CLASSES, cube=(2000.0,) * LENGTH_CLASSES)
    state = EngineState(1005.0, 0.0, 0, arrivals=(ArrivalBin(1000, 3, 4, 400, 100),))
    rows, *_ = gather([replace(pod("a", 1005.0), state=state)], {}, law)
    kv, kv_sq = moments_held(100.0, 7.0, 90.0, 2000.0)
    assert rows[1000] == pytest.approx([4, 300, 300**2 / 4, 300 * 250 / 4, 400, 28, 4 * kv, 4 * kv_sq])


def test_stock_engines_read_seconds_apart_lose_no_token() -> None:
    idle = EngineLoad(0, 0, 0, 100_000, 64)
    history, known = History(), dict[str, PodMemory]()
    for tick in range(1000, 1060, 5):
        seen = {"a": float(tick), "b": tick + 3.0}
        loads = {name: replace(idle, prefill_uncached_tokens_total=int(100 * at)) for name, at in seen.items()}
        rows, front = reckon([replace(pod(name, at), load=loads[name], state=None) for name, at in seen.items()], known)
        history = extend(history, rows, front, 300)
        known = {name: PodMemory(at=at, uncached_tokens=100 * int(at)) for name, at in seen.items()}
    assert history.tokens[3:].tolist() == pytest.approx([200.0] * (history.seconds - 3))  # b is known from 1003 on
