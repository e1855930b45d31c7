"""Length classes: the table, its boundaries, and its formula."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_engine_config.length_class import LENGTH_CLASSES, length_class

# The first prompt length of each class.
FIRST = [0, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072]


@pytest.mark.parametrize(("kind", "first"), enumerate(FIRST))
def test_a_class_begins_at_its_first_length(kind: int, first: int) -> None:
    assert length_class(first) == kind


@pytest.mark.parametrize(("kind", "last"), [(kind, first - 1) for kind, first in enumerate(FIRST[1:])])
def test_a_class_ends_below_the_next_ones_first_length(kind: int, last: int) -> None:
    assert length_class(last) == kind


@pytest.mark.parametrize("tokens", [131072, 262144, 10**9])
def test_the_last_class_has_no_upper_end(tokens: int) -> None:
    assert length_class(tokens) == LENGTH_CLASSES - 1 == 11


@given(st.integers(-10, 2**21))
def test_it_is_the_clamped_logarithm(tokens: int) -> None:
    assert length_class(tokens) == min(max(math.floor(math.log2(max(tokens, 1) / 64)), 0), 11)


@given(st.integers(0, 2**20), st.integers(0, 2**20))
def test_a_longer_prompt_is_never_in_a_lower_class(one: int, other: int) -> None:
    assert length_class(min(one, other)) <= length_class(max(one, other))
