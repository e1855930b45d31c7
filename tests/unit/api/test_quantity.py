import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.api.quantity import parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"), [("2s", 2.0), ("50ms", 0.05), ("1m30s", 90.0), ("1.5s", 1.5), ("2h", 7200.0), ("0s", 0.0)]
)
def test_durations_are_read_as_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "2", "s", "-1s", "2 s", "1d", "soon", "1s ", "9" * 40 + "s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='set one such as "2s"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2.0), ("500m", 0.5), ("1Ki", 1024.0), ("16Gi", 16 * 2**30), ("1k", 1e3), ("1E", 1e18), ("1e3", 1000.0)],
)
def test_quantities_are_read_as_numbers(text: str, number: float) -> None:
    assert parse_quantity(text) == number


@pytest.mark.parametrize("text", ["", "2x", "Gi", "-1", "1 Gi", "2 gigs", "1KiB"])
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='set one such as "2"'):
        parse_quantity(text)


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h"]))
def test_a_duration_grows_with_its_number(number: int, unit: str) -> None:
    assert parse_duration(f"{number + 1}{unit}") > parse_duration(f"{number}{unit}")
