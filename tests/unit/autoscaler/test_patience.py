"""What a reversal teaches: by how much the scale-down window grows, and when it shrinks again."""

from dataclasses import replace

import pytest

from headrace.autoscaler.memory import RoleMemory
from headrace.autoscaler.patience import lowered_from, patience

NOW, WINDOW_S = 10_000.0, 600.0
LOWERED = RoleMemory(raised_at=5_000.0, lowered_at=NOW - 300.0, lowered_from=18)


@pytest.mark.parametrize(
    ("before", "replicas", "factor"),
    [
        (17, 18, 3.0),  # all of the rise was there before
        (12, 18, 3.0),
        (17, 21, 1.5),  # one of four
        (12, 24, 2.0),  # six of twelve
        (17, 17, 1.0),
        (17, 16, 1.0),
    ],
)
def test_it_grows_by_the_share_of_a_rise_that_steps_down_had_taken_away(
    before: int, replicas: int, factor: float
) -> None:
    assert patience(LOWERED, WINDOW_S, replicas, before, NOW) == pytest.approx(factor)


def test_a_rise_long_after_the_step_down_or_after_a_rise_teaches_nothing() -> None:
    assert patience(replace(LOWERED, lowered_at=NOW - 1_300.0), WINDOW_S, 18, 17, NOW) == 1.0
    assert patience(replace(LOWERED, lowered_at=NOW - 1_300.0), 700.0, 18, 17, NOW) == 3.0  # within two windows
    assert patience(replace(LOWERED, raised_at=NOW - 100.0), WINDOW_S, 18, 17, NOW) == 1.0


def test_six_windows_are_the_most() -> None:
    assert patience(replace(LOWERED, patience=3.0), WINDOW_S, 18, 17, NOW) == 6.0


def test_it_halves_after_an_hour_without_a_change() -> None:
    grown = replace(LOWERED, patience=3.0)
    assert patience(grown, WINDOW_S, 17, 17, NOW) == 3.0
    assert patience(grown, WINDOW_S, 17, 17, NOW + 3_400.0) == 1.5
    assert patience(replace(grown, patience=1.5), WINDOW_S, 17, 17, NOW + 3_400.0) == 1.0


def test_steps_down_in_a_row_come_from_where_the_first_began() -> None:
    raised = RoleMemory(raised_at=5_000.0)
    first = replace(raised, lowered_from=lowered_from(raised, 18, 20), lowered_at=6_000.0)
    assert first.lowered_from == 20
    assert lowered_from(first, 15, 18) == 20
    assert lowered_from(replace(first, raised_at=7_000.0), 21, 22) == 22
