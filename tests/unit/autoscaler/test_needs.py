"""What each constraint asks for, from loads written down by hand."""

from dataclasses import replace

import pytest

from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Constraint, Need
from headrace.autoscaler.limits import Objective
from headrace.autoscaler.needs import DecodeLoad, DecodePool, PrefillLoad, decode_needs, prefill_needs, resident
from headrace.autoscaler.quantiles import normal_z
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))

PREFILL = PrefillLoad(
    work=10.0, error=0.0, reactive=10.0, envelope=0.0, envelope_window_s=1, budget_s=2.0, alone_s=0.05,
    tight_alone_s=0.05, variation=1.0, backlog_s=100.0, backlog_later_s=400.0, blocked=7.0, lead_s=120.0,
)  # fmt: skip

# 100 requests a second of 1,000 + 200 tokens
DECODE = DecodeLoad(
    output=20_000.0, kv=22e6, kv_sq=25e9, reserved=512.0, rate=100.0, dispersion=1.0, error=0.0,
    residence_tokens=400.0, resident_kv=0.0, held_kv=0.0, entering_kv=3_000.0, running=0.0, prompt=100_000.0,
)  # fmt: skip
POOL = DecodePool(400_000.0, 2048.0, 0.95)


def need(needs: tuple[Need, ...], constraint: Constraint) -> float:
    return next(n.replicas for n in needs if n.constraint is constraint)


def backlog(load: PrefillLoad) -> float:
    return need(prefill_needs(load, 0.025, 1.0, 1.0), Constraint.PREFILL_BACKLOG)


def test_replicas_that_will_still_be_busy_are_made_up_for() -> None:
    assert backlog(PREFILL) == pytest.approx(17.0)  # 10 of work, and all 7 that will have 400 s of queue among them


def test_a_queue_that_soon_ends_is_made_up_for_in_part() -> None:
    assert backlog(replace(PREFILL, backlog_later_s=60.0)) == pytest.approx(10.0 + 60.0 / 30.0)


def test_a_queue_that_is_gone_by_then_asks_for_nobody() -> None:
    assert backlog(replace(PREFILL, backlog_later_s=0.0)) == 0.0
    assert backlog(replace(PREFILL, blocked=0.0)) == 0.0


def kv_need(load: DecodeLoad) -> float:
    needs = decode_needs(load, MODEL, POOL, Objective(), 0.025, prefill_work=0.0, scale=1.0)
    return need(needs, Constraint.DECODE_KV)


def test_what_was_held_counts_where_the_model_says_less() -> None:
    assert kv_need(replace(DECODE, resident_kv=1.2e6)) == pytest.approx(1.2e6 / POOL.room)
    assert kv_need(replace(DECODE, resident_kv=1.2e6)) > kv_need(DECODE)


def test_a_parked_backlog_is_no_measure_of_the_load() -> None:
    parked = kv_need(replace(DECODE, resident_kv=40e6))
    assert parked < 10.0  # 105 by what was held
    assert parked == kv_need(replace(DECODE, resident_kv=80e6))


def test_less_may_miss_more_is_needed() -> None:
    few, many = (
        decode_needs(DECODE, MODEL, POOL, Objective(), share, prefill_work=0.0, scale=1.0) for share in (0.005, 0.05)
    )
    assert need(few, Constraint.DECODE_KV) > need(many, Constraint.DECODE_KV)


def places_need(load: DecodeLoad) -> float:
    needs = decode_needs(load, MODEL, DecodePool(400_000.0, 8.0, 0.95), Objective(), 0.025, prefill_work=0.0, scale=1.0)
    return need(needs, Constraint.DECODE_STEP)


def test_requests_parked_for_prefill_do_not_grow_decode_by_their_number() -> None:
    few = replace(DECODE, output=8.0, kv=1e3, kv_sq=1e6, rate=2.0, prompt=20_000.0)  # answers of four tokens
    assert places_need(replace(few, running=500.0)) == places_need(replace(few, running=50.0))
    assert places_need(replace(few, running=500.0)) < 3.0  # 62 by their number


def streams_at(load: DecodeLoad, quantile: float) -> float:
    """Running requests at the quantile over their mean."""
    found = resident(load, MODEL, 4.0, prefill_work=0.0, z=normal_z(quantile), cap_s=0.045)
    return found.running_q / found.running


@pytest.mark.parametrize("quantile", [0.9, 0.96, 0.99])
def test_a_forecasts_error_adds_itself_once_whatever_quantile_is_sized_for(quantile: float) -> None:
    many = replace(DECODE, output=1e5, kv=1e8, rate=400.0)  # so many that chance alone adds next to nothing
    added = streams_at(replace(many, error=0.5), quantile) / streams_at(replace(many, error=0.0), quantile)
    assert 1.35 <= added <= 1.6
