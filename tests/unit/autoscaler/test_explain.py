import json
from dataclasses import replace

from headrace_fakes.fluid_fleet import FluidFleet

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.explain import explain
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.record import from_record, to_record
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B


def decision(rate: float = 90.0) -> Decision:
    truth = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))
    fleet = FluidFleet(truth, {Role.PREFILL: 1, Role.DECODE: 1}, rate=lambda _t: rate)
    for _ in range(30):
        fleet.step()
    limits = Limits(Objective(), {Role.PREFILL: RoleLimits(1, 8), Role.DECODE: RoleLimits(1, 8)})
    return plan(fleet.signals(), truth, limits, initial_memory(), fleet.now).decision


def test_a_record_comes_back_unchanged_through_json() -> None:
    made = decision()
    assert from_record(json.loads(json.dumps(to_record(made)))) == made


def test_the_explanation_names_binding_constraint_numbers_and_what_ifs() -> None:
    made = decision()
    text = explain(made)
    for role, part in made.roles.items():
        assert f"{role}: {part.target.replicas} replicas wanted" in text
        assert part.binding in text
        assert f"with {part.target.replicas} (chosen)" in text
    assert "signals: healthy (Fresh)" in text


def test_an_idle_service_is_explained_by_its_minimum() -> None:
    assert "the lower bound of the spec decides" in explain(decision(rate=0.0))


def test_what_clients_missed_is_told_with_what_no_replica_could_help() -> None:
    shares = {"ttft_missed_share": 0.061, "ttft_late_alone_share": 0.02, "tpot_missed_share": 0.013}
    made = decision()
    assert "clients:" not in explain(made)  # these engines do not tell
    text = explain(replace(made, inputs={**made.inputs, **shares, "feedback_prefill": 1.25}))
    assert "6.1% of the answers of about ten minutes missed TTFT (2.0% with prompts that take longer alone" in text
    assert "1.3% TPOT; needs of prefill x 1.25, of decode x 1.00" in text


def test_prompts_that_are_late_alone_are_not_spoken_of_where_there_are_none() -> None:
    shares = {"ttft_missed_share": 0.061, "ttft_late_alone_share": 0.0, "tpot_missed_share": 0.013}
    made = decision()
    assert "missed TTFT, 1.3% TPOT" in explain(replace(made, inputs={**made.inputs, **shares}))
