from collections.abc import Callable
from typing import cast

import pytest

from e2e.benchmarks.policies.common import BusyShare, Facts, views
from e2e.benchmarks.policies.engine_aware import (
    AibrixApa,
    BlitzBand,
    DynamoLoad,
    DynamoLoadSla,
    WvaSaturation,
    WvaTokens,
)
from e2e.benchmarks.policies.forecasting import DynamoHybrid, DynamoSla, HeteroScale, TokenScale, TrafficMeter
from e2e.benchmarks.policies.kubernetes import HpaBehaviour, HpaKv, HpaQueue, KnativeKpa, RayServe
from e2e.benchmarks.registry import BASELINES, FAMILIES, entry
from headrace.api.roles import Role
from headrace.autoscaler.signals import Signals
from headrace.simulator.policy import Policy

from .conftest import NOW

P, D = Role.PREFILL, Role.DECODE
Make = Callable[..., Signals]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_stays_within_bounds_on_idle_and_on_overload(name: str, facts: Facts, signals: Make) -> None:
    policy = cast("Policy", FAMILIES[name][0](facts, entry(name).default))
    loads: tuple[dict[str, float], ...] = (
        {},
        {"waiting": 500, "kv": 1.0, "running": 2000, "queued_tokens": 10**7, "rps": 400},
    )
    for tick in range(40):
        seen = signals(NOW + tick * policy.interval_s, **loads[tick % 2])
        for role, target in policy.decide(seen, seen.at).items():
            assert facts.min_replicas[role] <= target.replicas <= facts.max_replicas[role]
            assert len(target.victims) == max(0, seen.pools[role].desired - target.replicas)


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_has_a_default_and_at_most_five_values_of_its_knob(name: str) -> None:
    known = entry(name)
    assert 2 <= len(known.grid) <= 5
    assert known.default > 0


def test_hpa_behaviour_doubles_at_most_and_waits_five_minutes_to_shrink() -> None:
    behaviour = HpaBehaviour()
    assert behaviour.apply(0.0, 2, 100) == 6
    assert behaviour.apply(15.0, 6, 100) == 12
    assert behaviour.apply(30.0, 12, 3) == 12
    assert behaviour.apply(316.0, 12, 3) == 3


def test_hpa_queue_asks_for_one_replica_per_five_waiting_requests(facts: Facts, signals: Make) -> None:
    seen = signals(waiting=6)
    assert HpaQueue(facts).decide(seen, NOW)[P].replicas == 5  # 24 waiting / 5
    assert HpaQueue(facts).decide(signals(waiting=5), NOW)[P].replicas == 4  # within the tolerance


def test_hpa_kv_sizes_decode_by_kv_and_prefill_by_busy_gpus(facts: Facts, signals: Make) -> None:
    found = HpaKv(facts).decide(signals(kv=0.9), NOW)
    assert found[D].replicas == 3  # 2 x 0.9 / 0.6
    assert found[P].replicas == 1  # never busy


def test_busy_share_is_the_growth_of_the_busy_seconds(signals: Make) -> None:
    from dataclasses import replace

    share = BusyShare(60.0)
    for at, busy_s in ((NOW, 10.0), (NOW + 15.0, 22.0)):
        seen = signals(at, prefill=1)
        pods = tuple(
            replace(pod, load=replace(pod.load, prefill_busy_s_total=busy_s)) if pod.role is P and pod.load else pod
            for pod in seen.pods
        )
        found = share.read(views(replace(seen, pods=pods))[0], at)
    assert found == pytest.approx(0.8)


def test_knative_panics_on_a_burst_and_only_grows_until_it_is_over(facts: Facts, signals: Make) -> None:
    policy = KnativeKpa(facts, 10.0)
    for tick in range(30):
        policy.decide(signals(NOW + 2 * tick, running=1), NOW + 2 * tick)
    at = NOW + 60.0
    for tick in range(4):
        burst = policy.decide(signals(at + 2 * tick, running=100), at + 2 * tick)[P].replicas
    assert burst == 32
    assert policy.decide(signals(at + 10, running=1), at + 10)[P].replicas == 32


def test_ray_serve_waits_half_a_minute_before_it_grows(facts: Facts, signals: Make) -> None:
    policy = RayServe(facts, 2.0)
    at = [NOW + 10.0 * tick for tick in range(4)]
    grown = [policy.decide(signals(now, running=10), now)[P].replicas for now in at]
    assert grown == [4, 4, 4, 20]


def test_aibrix_grows_by_the_mean_queue_and_holds_for_five_minutes(facts: Facts, signals: Make) -> None:
    policy = AibrixApa(facts)
    assert policy.decide(signals(waiting=15), NOW)[P].replicas == 6
    assert policy.decide(signals(waiting=0), NOW + 200.0)[P].replicas == 6  # the recommendation still holds


def test_dynamo_load_adds_one_and_does_nothing_while_one_starts(facts: Facts, signals: Make) -> None:
    seen = signals(queued_tokens=20_000)
    assert DynamoLoad(facts).decide(seen, NOW)[P].replicas == 5
    assert P not in DynamoLoad(facts).decide(signals(queued_tokens=20_000, starting=1), NOW)


def test_dynamo_sla_removes_a_replica_only_if_the_rest_would_hold(facts: Facts, signals: Make) -> None:
    assert DynamoLoadSla(facts).decide(signals(), NOW)[P].replicas == 3
    assert DynamoLoadSla(facts).decide(signals(queued_tokens=60_000), NOW)[P].replicas == 4  # 1.5 s now, 2 s with three
    assert DynamoLoadSla(facts).decide(signals(queued_tokens=90_000), NOW)[P].replicas == 5  # 2.25 s now


def test_wva_adds_one_when_spare_kv_runs_out_and_keeps_it_while_pending(facts: Facts, signals: Make) -> None:
    assert WvaSaturation(facts).decide(signals(kv=0.75), NOW)[D].replicas == 3
    assert WvaTokens(facts).decide(signals(kv=0.79), NOW)[D].replicas == 3


def test_traffic_is_read_up_to_the_age_of_the_readings(signals: Make) -> None:
    meter = TrafficMeter()
    seen = meter.read(signals(rps=8.0), 60.0)
    assert seen.requests_per_s == pytest.approx(8.0, rel=0.05)
    assert (seen.prompt_tokens, seen.output_tokens) == (1000.0, 200.0)


def test_forecasters_size_prefill_by_token_rate_and_cap_the_step(facts: Facts, signals: Make) -> None:
    seen = signals(rps=120.0)  # 120,000 tokens a second over 40,000 a replica
    assert DynamoSla(facts).decide(seen, NOW)[P].replicas == 3
    assert TokenScale(facts, 2.0).decide(seen, NOW)[P].replicas == 6
    assert DynamoHybrid(facts).decide(seen, NOW)[P].replicas == 3
    assert DynamoSla(facts, 8.0).decide(seen, NOW)[P].replicas == 12  # four and eight more


def test_heteroscale_keeps_the_ratio_of_prefill_to_decode(facts: Facts, signals: Make) -> None:
    found = HeteroScale(facts, 0.3).decide(signals(rps=120.0), NOW)
    ratio = found[P].replicas / found[D].replicas
    assert ratio == pytest.approx(3.0 / 1.6, rel=0.15)  # 3 of prefill for 1.6 of decode, rounded up to whole replicas


def test_blitz_band_goes_to_the_middle_of_its_band_and_leaves_it_one_by_one(facts: Facts, signals: Make) -> None:
    busy = signals(queued_tokens=120_000)  # 480,000 tokens over 80,000 a replica in 2 s: 6 replicas of work
    assert BlitzBand(facts).decide(busy, NOW)[P].replicas == 11  # between 6 / 0.7 = 9 and 6 / 0.5 = 12
    assert BlitzBand(facts).decide(signals(), NOW)[P].replicas == 3
