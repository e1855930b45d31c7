from collections.abc import Callable

import numpy as np
import pytest

from headrace.autoscaler.forecast import BUCKET_S, ERRORS_NEEDED, ForecastState, Outlook, observe, outlook
from headrace.autoscaler.history import COLUMNS, History
from headrace.autoscaler.loads import demand
from headrace.autoscaler.memory import Memory

START = 1_000_000


def feed(rate: Callable[[int], float], seconds: int, horizon_s: float = 60.0) -> ForecastState:
    state = ForecastState()
    series = [rate(t) for t in range(seconds)]
    for end in range(5, seconds, 5):
        begin = max(0, end - 300)
        columns = np.zeros((COLUMNS, end - begin))
        columns[1] = series[begin:end]
        state = observe(state, History(START + begin, columns), horizon_s, 0.9)
    return state


def test_a_constant_rate_is_forecast_as_it_is() -> None:
    state = feed(lambda _t: 100.0, 3600)
    assert outlook(state, START + 3600) == Outlook(1.0, 0.0, tried=True)


def test_a_ramp_is_followed_ahead_of_it() -> None:
    state = feed(lambda t: 100.0 + 0.5 * t, 2400)
    reactive = 100.0 + 0.5 * 2370  # the last minute
    there = 100.0 + 0.5 * 2460  # a lead time later
    seen = outlook(state, START + 2400)
    assert 0.97 * there < reactive * seen.trend * (1 + seen.error) < 1.1 * there


def test_before_enough_errors_were_seen_the_reactive_rate_stands_alone() -> None:
    state = feed(lambda t: 100.0 + (t % 60), ERRORS_NEEDED * 20)
    assert outlook(state, START + 400).error == 0.0


def test_a_fall_is_never_forecast() -> None:
    state = feed(lambda t: max(1000.0 - 0.3 * t, 1.0), 2400)
    assert outlook(state, START + 2400).trend == 1.0


def test_a_fall_that_the_buckets_do_not_show_yet_is_no_growth() -> None:
    rate = [100.0] * 30 + [0.0] * 9  # the buckets end at 30 s, the history at 39 s
    columns = np.zeros((COLUMNS, len(rate)))
    columns[0], columns[1] = rate, rate
    history = History(START, columns)
    memory = Memory(history=history, forecast=observe(ForecastState(), history, 60.0, 0.9))
    found = demand(memory, START + 39, 1.0, engine_state=True, lookback_s=300)
    assert found.short.tokens < 80.0
    assert found.outlook.trend == 1.0


def test_without_a_day_of_history_growth_is_capped() -> None:
    state = feed(lambda t: 10.0 if t % 600 < 540 else 500.0, 7200)
    seen = outlook(state, START + 7200)
    assert seen.trend <= 1.5
    assert seen.error <= 0.5
    assert seen.trend * (1.0 + seen.error) <= 1.5 + 1e-9


def test_trend_and_error_add_at_most_half_together_until_a_day_was_seen() -> None:
    state = ForecastState(begun=START // BUCKET_S, point=127.0, level=100.0, error=0.5)
    seen = outlook(state, START + 3600)
    assert seen.trend == pytest.approx(1.27)
    assert seen.trend * (1.0 + seen.error) == pytest.approx(1.5)
    later = outlook(state, START + 86_400)
    assert later.trend * (1.0 + later.error) == pytest.approx(1.27 * 1.5)


def test_memory_is_bounded() -> None:
    state = feed(lambda t: float(t % 97), 9000)
    assert len(state.ring) <= 120
    assert all(len(errors) <= 240 for errors in state.errors)
