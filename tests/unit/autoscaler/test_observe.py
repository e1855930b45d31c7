from dataclasses import replace

import pytest

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Reason
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.signals import (
    ArrivalBin,
    EngineLoad,
    EngineState,
    PodPhase,
    PodSample,
    PoolState,
    Signals,
)
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

NOW = 10_000.0
IDLE = EngineLoad(
    running_requests=0, waiting_requests=0, used_tokens=0, max_total_tokens=100_000, max_running_requests=64
)


def test_surge_pods_of_a_rollout_do_not_become_replicas() -> None:
    old = PodSample("old", Role.WORKER, PodPhase.SERVING, NOW - 900, NOW - 800, NOW, "r1", IDLE)
    new = PodSample("new", Role.WORKER, PodPhase.STARTING, NOW - 5, revision="r2")
    signals = Signals("default/chat", NOW, (old, new), {Role.WORKER: PoolState(desired=1)})
    limits = Limits(Objective(), {Role.WORKER: RoleLimits(1, 4)})
    model = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    decision = plan(signals, model, limits, initial_memory(), NOW).decision.roles[Role.WORKER]
    assert decision.target.replicas == 1
    assert decision.target.victims == ()
    assert decision.reason is Reason.STEADY


def held_with_places(arrivals: bool, transferring: int) -> float:
    """KV tokens that the look-back notes for decode: 100,000 taken, of them a place for each of `transferring`."""
    state = EngineState(
        NOW, 0.0, 0, arrivals=tuple(ArrivalBin(int(NOW) - s, 3, 10, 10_000, 0) for s in range(99, 1, -1))
    )
    prefill = PodSample("p", Role.PREFILL, PodPhase.SERVING, 0.0, 0.0, NOW, "r1", IDLE, state if arrivals else None)
    load = replace(IDLE, used_tokens=100_000, decode_transfer_requests=transferring)
    decode = PodSample("d", Role.DECODE, PodPhase.SERVING, 0.0, 0.0, NOW, "r1", load)
    limits = Limits(Objective(ttft_s=2.0), {Role.PREFILL: RoleLimits(1, 4), Role.DECODE: RoleLimits(1, 4)})
    model = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    made = plan(Signals("default/chat", NOW, (prefill, decode)), model, limits, initial_memory(), NOW)
    return made.memory.role(Role.DECODE).held[-1][1]


def test_places_beyond_what_arrives_within_the_objective_are_parked_and_no_load_of_decode() -> None:
    assert held_with_places(True, 19) == 100_000  # 10 a second for 2 s are on their way
    assert held_with_places(True, 60) == pytest.approx(100_000 - 40 * 1000, rel=0.05)


def test_nothing_is_parked_before_an_arrival_was_seen() -> None:
    assert held_with_places(False, 60) == 100_000
