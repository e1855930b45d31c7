import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.benchmarks.iso import Point, attainment_at, frontier, gpu_hours_at

POINTS = [Point(10.0, 0.93), Point(12.0, 0.97), Point(11.9, 0.90), Point(20.0, 0.96)]
points = st.lists(st.builds(Point, st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=8)


def test_a_dominated_point_is_not_on_the_frontier() -> None:
    assert frontier(POINTS) == POINTS[:2]


def test_hours_are_interpolated_between_the_points_around_the_target() -> None:
    assert gpu_hours_at(POINTS, 0.95) == pytest.approx(11.0)


def test_nothing_is_extrapolated() -> None:
    assert gpu_hours_at(POINTS, 0.5) == 10.0
    assert gpu_hours_at(POINTS, 0.99) is None
    assert attainment_at(POINTS, 9.0) is None
    assert attainment_at(POINTS, 99.0) == 0.97
    assert attainment_at(POINTS, 11.0) == pytest.approx(0.95)


@given(points, st.floats(0, 1))
def test_hours_at_a_target_lie_within_the_points_and_grow_with_it(found: list[Point], target: float) -> None:
    hours = gpu_hours_at(found, target)
    if hours is None:
        assert max(p.attainment for p in found) < target
        return
    assert min(p.gpu_hours for p in found) <= hours <= max(p.gpu_hours for p in found) + 1e-9
    easier = gpu_hours_at(found, target / 2)
    assert easier is not None
    assert easier <= hours or math.isclose(easier, hours)
