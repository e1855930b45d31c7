from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.simulator.load import scale, window
from headrace.simulator.request import Arrival

LOAD = [Arrival(0.1 * i, 100 + i, 10, (i, i + 1)) for i in range(2000)]


@settings(deadline=None, max_examples=30)
@given(st.floats(0.05, 6.0))
def test_scaling_keeps_the_order_and_gives_the_asked_for_number(factor: float) -> None:
    made = list(scale(LOAD, factor, np.random.default_rng(1)))
    assert len(made) == pytest.approx(factor * len(LOAD), rel=0.15)
    assert all(a.t <= b.t for a, b in pairwise(made))


def test_a_factor_of_one_changes_nothing() -> None:
    assert list(scale(LOAD, 1.0, np.random.default_rng(1))) == LOAD


def test_copies_come_within_the_jitter_and_share_no_prefix_with_each_other() -> None:
    made = list(scale(LOAD[:1], 3.0, np.random.default_rng(1)))
    assert len(made) == 3
    assert all(0.0 <= arrival.t <= 5.0 for arrival in made)
    assert len({arrival.hash_ids for arrival in made}) == 3


def test_a_window_starts_at_zero() -> None:
    part = list(window(LOAD, 50.0, 10.0))
    assert part[0].t == pytest.approx(0.0, abs=0.1)
    assert len(part) == pytest.approx(100, abs=1)
