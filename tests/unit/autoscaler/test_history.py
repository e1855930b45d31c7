"""The arrivals of the last minutes: one frozen value that grows at its end and is forgotten at its begin."""

import json

import pytest

from headrace.autoscaler.history import AHEAD_MOST_S, COLUMN_NAMES, COLUMNS, History, Rows, dispersion, extend, rates


def rows_of(*seconds: int, value: float = 1.0) -> Rows:
    return {second: [value] * COLUMNS for second in seconds}


def test_seconds_without_arrivals_count_as_none_of_them() -> None:
    history = extend(History(), rows_of(100, 103), 105, 300)
    assert (history.start, history.end) == (100, 106)
    assert history.count.tolist() == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def test_a_late_row_goes_where_it_belongs_and_what_came_before_stays_as_it_was() -> None:
    before = extend(History(), rows_of(100, 101), 101, 300)
    after = extend(before, rows_of(100, 102, value=2.0), 102, 300)
    assert after.tokens.tolist() == [3.0, 1.0, 2.0]
    assert before.tokens.tolist() == [1.0, 1.0]


def test_what_is_older_than_the_length_is_forgotten_also_after_a_gap_longer_than_it() -> None:
    history = extend(History(), rows_of(*range(100, 110)), 109, 5)
    assert (history.start, history.seconds) == (105, 5)
    later = extend(history, rows_of(104, 200), 200, 5)
    assert (later.start, later.count.tolist()) == (196, [0.0, 0.0, 0.0, 0.0, 1.0])


def test_what_engines_told_of_seconds_that_others_have_yet_to_tell_waits_and_is_not_lost() -> None:
    before = extend(History(), rows_of(100, 101, 102), 100, 300)
    assert (before.end, before.count.tolist(), rates(before, 60).count) == (101, [1.0], 1.0)
    after = extend(before, rows_of(101, 103), 102, 300)
    assert (after.end, after.count.tolist()) == (103, [1.0, 2.0, 1.0])
    assert extend(after, {}, 103, 300).count.tolist() == [1.0, 2.0, 1.0, 1.0]
    assert History.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_seconds_far_beyond_what_others_told_are_a_wrong_clock_and_not_kept() -> None:
    history = extend(History(), rows_of(100, 100 + 3600), 100, 300)
    assert (history.seconds, history.columns.shape[1]) == (1, 1 + AHEAD_MOST_S)


def test_nothing_new_leaves_the_history_as_it_is() -> None:
    history = extend(History(), rows_of(100), 100, 300)
    assert extend(history, {}, 100, 300) is history
    assert extend(history, {}, None, 300) is history


def test_rates_are_means_over_the_window_or_over_what_there_is() -> None:
    history = extend(History(), {100: [4.0] * COLUMNS, 103: [2.0] * COLUMNS}, 103, 300)
    assert (rates(history, 2).seconds, rates(history, 2).kv_sq) == (2.0, 1.0)
    assert (rates(history, 60).seconds, rates(history, 60).count) == (4.0, 1.5)
    assert rates(History(), 60).seconds == 0.0


def test_it_survives_json_and_equals_itself() -> None:
    history = extend(History(), {100: [float(k) / 3.0 for k in range(COLUMNS)]}, 101, 300)
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again == history
    assert again != extend(history, {}, 102, 300)
    assert History.from_dict(json.loads(json.dumps(History().to_dict()))) == History()


def test_a_record_with_columns_of_unequal_length_is_refused() -> None:
    record = {"start": 0, **{name: [1.0] for name in COLUMN_NAMES}, "kv": [1.0, 2.0]}
    with pytest.raises(ValueError, match="inhomogeneous"):
        History.from_dict(record)


def test_dispersion_is_one_for_a_short_history_and_large_for_bursts() -> None:
    even = extend(History(), rows_of(*range(100)), 99, 300)
    bursts = extend(History(), {second: [100.0] * COLUMNS for second in range(0, 100, 20)}, 99, 300)
    assert dispersion(even.count[:40], 10) == 1.0
    assert dispersion(even.count, 10) == 0.0
    assert dispersion(bursts.count, 10) == pytest.approx(100.0**2 / 2.0 / 50.0)
