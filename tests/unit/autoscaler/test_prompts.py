"""The TTFT budget where prompts of many lengths wait in one queue, each with its own limit."""

from itertools import pairwise

import pytest
from headrace_fakes.fluid_fleet import FluidFleet

from headrace.api.roles import Role
from headrace.autoscaler.capacity import CapacityModel
from headrace.autoscaler.limits import Limits, Objective, RoleLimits
from headrace.autoscaler.memory import initial_memory
from headrace.autoscaler.plan import plan
from headrace.autoscaler.prompts import PromptLaw, learn, tight_prompt_tokens
from headrace.catalog.accelerators import lookup
from headrace.catalog.measured import LLAMA_8B

MODEL = CapacityModel.prior(LLAMA_8B, lookup("nvidia-h100"))


def test_a_mixture_is_judged_by_its_shorter_half_not_by_its_mean() -> None:
    law = learn(PromptLaw(), {2: (50.0, 50 * 500.0), 8: (50.0, 50 * 20_000.0)}, 5.0, 300.0)
    assert tight_prompt_tokens(law, 10_250.0) == pytest.approx(500.0)


def test_prompts_of_one_length_stand_for_themselves() -> None:
    law = learn(PromptLaw(), {4: (30.0, 30 * 1024.0)}, 5.0, 300.0)
    assert tight_prompt_tokens(law, 1024.0) == pytest.approx(1024.0)


def test_a_few_short_prompts_change_little_and_never_by_a_jump() -> None:
    found = []
    for share in range(101):
        law = learn(PromptLaw(), {1: (share, share * 200.0), 6: (100 - share, (100 - share) * 6000.0)}, 5.0, 300.0)
        found.append(tight_prompt_tokens(law, 6000.0))
    assert found[0] == pytest.approx(6000.0)
    assert found[100] == pytest.approx(200.0)
    assert all(before >= after for before, after in pairwise(found))
    assert max(before - after for before, after in pairwise(found)) < 150.0


def test_lengths_of_long_ago_fade_and_a_lull_forgets_nothing() -> None:
    law = learn(PromptLaw(), {8: (100.0, 2_000_000.0)}, 5.0, 300.0)
    assert learn(law, {}, 3600.0, 300.0) == law
    law = learn(law, {2: (100.0, 50_000.0)}, 1500.0, 300.0)
    assert tight_prompt_tokens(law, 10_000.0) == pytest.approx(500.0, rel=0.05)


def test_without_known_lengths_the_mean_stands() -> None:
    assert tight_prompt_tokens(PromptLaw(), 777.0) == 777.0


def test_the_budget_follows_the_shorter_prompts_only_if_the_objective_does() -> None:
    budgets = {}
    for each_s in (0.0, 0.5):
        limits = Limits(Objective(ttft_s=0.5, ttft_per_1k_prompt_s=each_s), {Role.WORKER: RoleLimits(1, 8)})
        memory, model = initial_memory(), MODEL
        for prompt in (16_000, 1024):
            fleet = FluidFleet(MODEL, {Role.WORKER: 2}, rate=lambda _t: 4.0, prompt=prompt)
            fleet.now = max(fleet.now, memory.at)
            for _ in range(60):
                fleet.step()
            made = plan(fleet.signals(), model, limits, memory, fleet.now)
            memory, model = made.memory, made.model
        budgets[each_s] = made.decision.inputs["ttft_budget_s"]
    assert budgets[0.0] == pytest.approx(0.5, abs=0.05)
    assert budgets[0.5] < 0.5 * 8.5  # the mean prompt of 8,512 tokens would have 4.3 s
