from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Reason
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.signals import EngineLoad, PodPhase, PodSample, PoolState, Signals
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
