"""The decision that docs/autoscaling.md tells: made by running the plan. Run this file to print it anew."""

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B
from headrace_fakes.fluid_fleet import FluidFleet


def documented_decision() -> Decision:
    """Llama-8B on H100, 1,024 + 256 tokens: 40 requests/s for ten minutes, then 110; 45 s into it. At least 3 and 2."""
    truth = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    fleet = FluidFleet(truth, {Role.PREFILL: 1, Role.DECODE: 1}, rate=lambda t: 40.0 if t <= 600 else 110.0)
    limits = Limits(Objective(), {Role.PREFILL: RoleLimits(3, 8), Role.DECODE: RoleLimits(2, 8)})
    memory, model = initial_memory(), truth
    while True:
        for _ in range(5):
            fleet.step()
        made = plan(fleet.signals(), model, limits, memory, fleet.now)
        memory, model = made.memory, made.model
        if fleet.now - fleet.begin >= 645:
            return made.decision
        fleet.apply(made.decision.targets())


if __name__ == "__main__":
    import json

    from headrace.autoscaler.explain import explain
    from headrace.autoscaler.record import to_record

    decision = documented_decision()
    print(explain(decision))  # noqa: T201 - the output is what this file is run for
    print(json.dumps(to_record(decision), indent=1))  # noqa: T201
