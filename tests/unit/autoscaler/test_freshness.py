"""What each state of the samples is called, who is named, and what stands in for a pod that says nothing."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.freshness import Freshness, freshness, health
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.observe import Observed, observe
from headrace.autoscaler.plan import plan
from headrace.autoscaler.signals import EngineLoad, EngineState, PodPhase, PodSample, PoolState, Signals
from headrace.autoscaler.skew import skew
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

NOW = 10_000.0
LIMITS = Limits(Objective(), {Role.WORKER: RoleLimits(1, 64)})
MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
STATE = EngineState(at=NOW, started_at=0.0, queued_tokens=0)


def pod(name: str, age_s: float | None = 1.0, *, used: int = 1000, state: bool = True, **load: object) -> PodSample:
    """A serving worker of 10,000 KV tokens, read so long ago; None: never."""
    found = None if age_s is None else EngineLoad(4, 0, used, 10_000, 64, **load)  # type: ignore[arg-type]
    at = None if age_s is None else NOW - age_s
    seen = STATE if state and found is not None else None
    return PodSample(name, Role.WORKER, PodPhase.SERVING, 0.0, 0.0, at, "r1", found, seen)


def signals(*pods: PodSample) -> Signals:
    return Signals("default/chat", NOW, pods)


STATES = {
    "just read": (pod("a"), Freshness.FRESH),
    "half a minute old": (pod("a", 30.0), Freshness.FRESH),
    "older": (pod("a", 30.1), Freshness.STALE),
    "a minute old": (pod("a", 60.0), Freshness.STALE),
    "older than that": (pod("a", 60.1), Freshness.MISSING),
    "never read": (pod("a", None), Freshness.MISSING),
    "just read, figures of a scheduler that hangs": (pod("a", lag_s=31.0), Freshness.STALE),
    "however long it hangs, it did say something": (pod("a", lag_s=900.0), Freshness.STALE),
    "figures some steps old": (pod("a", lag_s=2.0), Freshness.FRESH),
}


@pytest.mark.parametrize("case", STATES)
def test_a_sample_is_as_fresh_as_its_read_and_its_figures(case: str) -> None:
    sample, state = STATES[case]
    assert freshness(sample, NOW, LIMITS) is state


# pods -> healthy, reason, what the message says
HEALTH = {
    "all is well": ([pod("a"), pod("b")], True, "Fresh", "2 of 2 serving pods fresh"),
    "nobody serves": ([], True, "NoEngines", "no pod has served"),
    "one is silent": ([pod("a"), pod("b", None)], False, "PodsSilent", "pod b can't be read"),
    "silent counts more than stale": ([pod("a", 45.0), pod("b", 90.0)], False, "PodsSilent", "pod a last answered"),
    "one is stale": ([pod("a"), pod("b", 45.0)], False, "Stale", "pod b last answered 45 s ago"),
    "one hangs": ([pod("a"), pod("b", lag_s=70.0)], False, "Stale", "scheduler of pod b stands still"),
    "many are named by three": (
        [pod(f"p{i}", None) for i in range(9)], False, "PodsSilent", "pod p0, p1, p2 and 6 more can't be read",
    ),
    "an unknown release": (
        [pod("a"), pod("b", engine_version="0.9.0", read_as="0.5.23")],
        True, "EngineVersionUnknown", "SGLang 0.9.0 of pod b is not a known release",
    ),
    "one has it all": (
        [pod("a", used=8000), pod("b"), pod("c", used=1600), pod("d")],
        True, "RoutingSkew", "routing skew: pod a has 6x the load of the median worker pod",
    ),
    "a stock engine": ([pod("a", state=False)], True, "NoEngineState", "no /headrace/state"),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTH)
def test_the_condition_says_what_is_wrong_and_with_which_pods(case: str) -> None:
    pods, healthy, reason, says = HEALTH[case]
    found = health(signals(*pods), LIMITS, NOW)
    assert (found.healthy, found.reason) == (healthy, reason)
    assert says in found.message
    assert found.fresh + found.stale + found.missing == len(pods)


SHARES = {
    "one has five times the rest": ([0.5, 0.1, 0.1, 0.1], True),
    "one has all": ([0.5, 0.0, 0.0], True),
    "twice is what happens": ([0.4, 0.2, 0.2], False),
    "two never differ by more": ([0.9, 0.01], False),
    "all are full: that is a matter of size": ([1.0, 0.4, 0.45, 1.0], False),
    "uneven, and nobody waits": ([0.25, 0.01, 0.01], False),
    "nothing": ([], False),
    "idle": ([0.0, 0.0, 0.0], False),
}


@pytest.mark.parametrize("case", SHARES)
def test_skew_is_told_where_one_has_far_more_and_the_rest_has_room(case: str) -> None:
    shares, told = SHARES[case]
    pods = [pod(f"p{i}", used=int(share * 10_000)) for i, share in enumerate(shares)]
    found = skew(pods)
    assert (found is not None) is told
    if found is not None:
        assert found.pod == "p0"


def test_routing_skew_adds_no_replicas() -> None:
    even = [pod(f"p{i}", used=2900) for i in range(4)]
    skewed = [pod("p0", used=8000), *(pod(f"p{i}", used=1200) for i in range(1, 4))]
    targets = []
    for pods in (even, skewed):
        asked = replace(signals(*pods), pools={Role.WORKER: PoolState(desired=4)})
        decision = plan(asked, MODEL, LIMITS, initial_memory(), NOW).decision
        targets.append(decision.roles[Role.WORKER].target)
    assert decision.health.reason == "RoutingSkew"
    assert targets[0] == targets[1]


def just_ready(name: str, age_s: float = 5.0) -> PodSample:
    return replace(pod(name, None), ready_at=NOW - age_s)


def test_a_pod_that_has_just_become_ready_is_not_missing() -> None:
    assert health(signals(pod("a"), just_ready("b")), LIMITS, NOW).reason == "Fresh"
    assert health(signals(just_ready("b")), LIMITS, NOW).reason == "NoEngines"
    assert health(signals(pod("a"), just_ready("b", 31.0)), LIMITS, NOW).reason == "PodsSilent"
    went = replace(pod("b", 90.0), ready_at=NOW - 5.0)  # read before: it was away and should be back
    assert health(signals(pod("a"), went), LIMITS, NOW).reason == "PodsSilent"


def test_a_pod_that_has_just_become_ready_brings_no_load_of_its_own() -> None:
    busy = replace(pod("a"), state=replace(STATE, queued_tokens=5000))
    alone, with_new, with_silent = look(busy), look(busy, just_ready("b")), look(busy, pod("b", None))
    assert (with_new.unseen, with_silent.unseen) == (0, 1)
    assert with_new.queued_tokens == alone.queued_tokens
    assert with_new.running == alone.running
    assert with_silent.queued_tokens == 2 * alone.queued_tokens
    assert len(with_new.serving) == 2


def test_nothing_goes_before_a_pod_that_has_just_become_ready_was_read() -> None:
    limits = replace(LIMITS, restart_hold_s=0.0, scale_down_window_s=0.0)
    for pods in ((just_ready("a"), just_ready("b")), (pod("a"), just_ready("b"))):
        made = plan(signals(*pods), MODEL, limits, initial_memory(), NOW).decision.roles[Role.WORKER]
        assert made.target.replicas == 2
        assert "not read yet" in made.message
    read = plan(signals(pod("a"), pod("b")), MODEL, limits, initial_memory(), NOW).decision.roles[Role.WORKER]
    assert read.target.replicas == 1


def look(*pods: PodSample) -> Observed:
    return observe(signals(*pods), Role.WORKER, LIMITS, initial_memory(), MODEL, NOW)


figures = st.builds(
    EngineLoad,
    running_requests=st.integers(0, 64), waiting_requests=st.integers(0, 50), used_tokens=st.integers(0, 10_000),
    max_total_tokens=st.just(10_000), max_running_requests=st.just(64),
    waiting_uncached_tokens=st.none() | st.integers(0, 100_000), decode_prealloc_requests=st.integers(0, 20),
)  # fmt: skip
fleet = st.lists(figures, min_size=1, max_size=8)


def served(loads: list[EngineLoad], age_s: float = 1.0) -> list[PodSample]:
    return [replace(pod(f"p{i}", age_s, state=False), load=load) for i, load in enumerate(loads)]


def amounts(found: Observed) -> tuple[float, ...]:
    return (found.running, found.kv_tokens, found.queued_tokens, found.waiting_places, found.prealloc_requests)


@given(fleet, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_missing_pod_counts_as_the_median_and_never_lowers_what_was_seen(loads: list[EngineLoad], more: int) -> None:
    pods = served(loads)
    seen, guessed = look(*pods), look(*pods, *(pod(f"silent{i}", None) for i in range(more)))
    assert all(after >= before for before, after in zip(amounts(seen), amounts(guessed), strict=True))
    middle = sorted(load.used_tokens for load in loads)[(len(loads) - 1) // 2]
    assert guessed.kv_tokens == seen.kv_tokens + more * middle
    assert guessed.unseen == more


@given(fleet, fleet, st.floats(30.5, 60.0))
@settings(max_examples=100, deadline=None)
def test_a_stale_pod_counts_with_what_it_said_and_is_held_against_taking_away(
    loads: list[EngineLoad], old: list[EngineLoad], age_s: float
) -> None:
    late = [replace(sample, pod=f"late-{sample.pod}") for sample in served(old, age_s)]
    fresh, both = look(*served(loads)), look(*served(loads), *late)
    assert all(after >= before for before, after in zip(amounts(fresh), amounts(both), strict=True))
    assert both.kv_tokens == fresh.kv_tokens + sum(load.used_tokens for load in old)
    assert both.stale == len(old)
    assert not health(signals(*served(loads), *late), LIMITS, NOW).healthy
