"""Which rate a decision is made by: a minute's, the look-back's, or that of a jump."""

from dataclasses import replace

import pytest

from headrace.autoscaler.history import COLUMNS, History, extend
from headrace.autoscaler.loads import demand
from headrace.autoscaler.memory import initial_memory

NOW = 2000


def seen(*parts: tuple[int, float]) -> tuple[float, float]:
    """Requests per second of the short and the long window after parts of (seconds, requests per second)."""
    counts = [rate for seconds, rate in parts for _ in range(seconds)]
    rows = {NOW - len(counts) + k: [count] * COLUMNS for k, count in enumerate(counts) if count}
    history = extend(History(), rows, NOW - 1, 300)
    found = demand(
        replace(initial_memory(), history=history), float(NOW), 1.0, engine_state=True, lookback_s=300
    )  # fmt: skip
    return found.short.count, found.long.count


def test_a_steady_load_is_the_same_in_both_windows() -> None:
    assert seen((300, 10.0)) == (10.0, 10.0)


def test_a_rise_is_followed_as_the_minute_fills() -> None:
    assert seen((280, 10.0), (20, 25.0)) == pytest.approx((15.0, 11.0))


def test_a_jump_to_four_times_the_load_counts_whole_after_twenty_seconds() -> None:
    assert seen((290, 10.0), (10, 40.0))[0] == pytest.approx(15.0)
    assert seen((280, 10.0), (20, 40.0))[0] == pytest.approx(40.0)


def test_bursts_as_there_were_before_are_no_jump() -> None:
    bursts = [part for _ in range(5) for part in ((40, 2.0), (20, 40.0))]
    assert seen(*bursts)[0] == pytest.approx((40 * 2 + 20 * 40) / 60)


def test_a_burst_that_chance_explains_is_no_jump() -> None:
    lumps = [part for _ in range(9) for part in ((1, 30.0), (29, 0.0))]  # 1 a second, index of dispersion 30
    assert seen(*lumps, (19, 0.0), (1, 80.0))[0] == pytest.approx((30 + 80) / 60)  # 4 a second, within 1 + 4 x 1.2
    assert seen(*lumps, (19, 0.0), (1, 160.0))[0] == pytest.approx(8.0)


def test_what_a_jump_left_behind_does_not_outweigh_the_minute() -> None:
    assert seen((220, 10.0), (60, 40.0), (20, 10.0))[0] == pytest.approx(30.0)


def test_in_its_first_minute_a_service_has_no_load_to_jump_from() -> None:
    assert seen((30, 10.0), (20, 100.0))[0] == pytest.approx((5 * 10 + 20 * 100) / 25)
