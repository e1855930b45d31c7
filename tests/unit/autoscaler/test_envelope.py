"""The envelope of prefill: what the bursts that the objective's requests met asked for."""

import numpy as np
import pytest

from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.envelope import envelope
from headrace.autoscaler.history import History
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
BUDGET_S = 2.0


def history_of(counts: list[int], size: float = 8000.0) -> History:
    of_each = (1.0, size, size**2, size * size / 2, size, 0.0, 0.0, 0.0)
    return History(1000, np.outer(of_each, counts))


def need(counts: list[int], size: float = 8000.0, miss_share: float = 0.05, *, late_last: bool = False) -> float:
    return envelope(history_of(counts, size), MODEL, BUDGET_S, miss_share, late_last=late_last)[0]


def test_a_burst_that_most_requests_arrive_in_is_sized_for_even_if_it_is_short() -> None:
    steady = need([1] * 300)
    bursts = need(([1] * 148 + [120, 120]) * 2)  # 4 of 300 seconds, 480 of 776 requests
    one_second_s = 120 * 8000 * MODEL.token_price_s(4000.0)
    assert bursts >= one_second_s / (1.0 + BUDGET_S)
    assert bursts > 10 * steady


def test_steady_traffic_asks_for_what_it_did_when_every_second_weighed_the_same() -> None:
    work_s = 20 * 8000 * MODEL.token_price_s(4000.0)
    assert need([20] * 300) == pytest.approx(60 * work_s / (60 + BUDGET_S), rel=1e-6)


def test_a_lone_long_prompt_never_asks_for_more_replicas_than_itself() -> None:
    assert need([0] * 200 + [1] + [0] * 99, size=120_000.0) <= 1.0


def test_a_service_that_was_idle_asks_for_nothing() -> None:
    assert need([0] * 300) == 0.0
    assert envelope(History(), MODEL, BUDGET_S, 0.05) == (0.0, 1)


def test_with_late_ones_last_a_burst_may_miss_what_does_not_fit() -> None:
    """4 of 300 seconds, 480 of 776 requests: of each burst 5 % x 776 / 480 = 8 % may be late."""
    bursts = ([1] * 148 + [120, 120]) * 2
    whole = need(bursts)
    assert 0.8 * whole < need(bursts, late_last=True) < (1.0 - 0.05 * 776 / 480) * whole
    assert need(bursts, late_last=True, miss_share=1e-6) == pytest.approx(whole, rel=1e-3)


def test_steady_traffic_needs_all_but_the_share_that_may_be_late() -> None:
    assert need([20] * 300, late_last=True) == pytest.approx(0.95 * need([20] * 300), rel=1e-6)


def test_with_late_ones_last_idle_is_still_nothing() -> None:
    assert need([0] * 300, late_last=True) == 0.0
