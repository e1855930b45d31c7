"""The joint decision: prefill and decode together under one budget and one band."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.autoscaler.decision import Veto
from headrace.autoscaler.limits import Limits

REACH = 3  # neighbours on either side: 7 x 7 = 49 states, within the 50 that a millisecond allows
VIOLATION_PRICE = 1000.0  # of a need unmet by its whole, against one replica-hour: objectives come before cost
BAND_PRICE = 100.0  # of leaving the prefill:decode band by its whole: after objectives, before cost
BUDGET = "GpuBudget"
BAND = "PrefillDecodeBand"


@dataclass(frozen=True, slots=True)
class Part:
    """One role's input: what guards let it have, what it needs, and what it cannot go below."""

    wanted: int
    need: float
    least: int
    most: int
    gpus: float
    cost: float
    draining: int  # pods that hold their accelerators while they finish; those taken back count as replicas


def choose(parts: Mapping[Role, Part], limits: Limits) -> tuple[dict[Role, int], dict[Role, tuple[Veto, ...]]]:
    """Replicas per role. Without a binding budget or band that is what the guards gave, and nothing is searched."""
    wanted = {role: part.wanted for role, part in parts.items()}
    if fits(wanted, parts, limits.gpu_budget) and not band_gap(wanted, limits):
        return wanted, {}
    centre = _into_budget(wanted, parts, limits.gpu_budget)
    roles = list(parts)
    spans = [
        range(max(parts[role].least, centre[role] - REACH), min(parts[role].most, centre[role] + REACH) + 1)
        for role in roles
    ]
    best, best_price = centre, _price(centre, parts, limits)
    for combination in itertools.product(*spans):
        state = dict(zip(roles, combination, strict=True))
        if not fits(state, parts, limits.gpu_budget):
            continue
        price = _price(state, parts, limits)
        if price < best_price - 1e-9:
            best, best_price = state, price
    return best, _vetoes(wanted, best, parts, limits)


def fits(state: Mapping[Role, int], parts: Mapping[Role, Part], budget: float | None) -> bool:
    """Whether the accelerators of all replicas, draining ones included, are within the budget."""
    return budget is None or gpus(state, parts) <= budget + 1e-9


def gpus(state: Mapping[Role, int], parts: Mapping[Role, Part]) -> float:
    """Accelerators held: a draining pod counts unless growth takes it back."""
    total = 0.0
    for role, part in parts.items():
        back = min(max(state[role] - part.wanted, 0), part.draining)
        total += (state[role] + part.draining - back) * part.gpus
    return total


def band_gap(state: Mapping[Role, int], limits: Limits) -> float:
    """How far prefill:decode is outside its band, relative to the bound; 0 inside. 1:3 with a least 0.5: 0.33."""
    decode = state.get(Role.DECODE)
    if not decode or Role.PREFILL not in state:
        return 0.0
    ratio = state[Role.PREFILL] / decode
    if limits.pd_ratio_min is not None and ratio < limits.pd_ratio_min - 1e-9:
        return 1.0 - ratio / limits.pd_ratio_min
    if limits.pd_ratio_max is not None and ratio > limits.pd_ratio_max + 1e-9:
        return ratio / limits.pd_ratio_max - 1.0
    return 0.0


def _into_budget(wanted: Mapping[Role, int], parts: Mapping[Role, Part], budget: float | None) -> dict[Role, int]:
    """Take one replica at a time from the role that is hurt least until the budget holds or all are at their least."""
    state = dict(wanted)
    while not fits(state, parts, budget):
        able = [role for role in parts if state[role] > parts[role].least]
        if not able:
            break
        state[min(able, key=lambda role: (_unmet(state[role] - 1, parts[role]), -parts[role].gpus))] -= 1
    return state


def _unmet(replicas: int, part: Part) -> float:
    return max(part.need - replicas, 0.0) / part.need if part.need > 0 else 0.0


def _price(state: Mapping[Role, int], parts: Mapping[Role, Part], limits: Limits) -> float:
    held = sum(state[role] * part.cost for role, part in parts.items())
    unmet = sum(_unmet(state[role], part) for role, part in parts.items())
    moved = sum(abs(state[role] - part.wanted) for role, part in parts.items())
    return held + VIOLATION_PRICE * unmet + BAND_PRICE * band_gap(state, limits) + moved * 1e-3


def _vetoes(
    wanted: Mapping[Role, int], best: Mapping[Role, int], parts: Mapping[Role, Part], limits: Limits
) -> dict[Role, tuple[Veto, ...]]:
    vetoes: dict[Role, tuple[Veto, ...]] = {}
    over = not fits(wanted, parts, limits.gpu_budget)
    for role in parts:
        if best[role] == wanted[role]:
            continue
        if over and best[role] < wanted[role]:
            message = f"{best[role]} of {wanted[role]}: the GPU budget of {limits.gpu_budget:g} is used up"
            vetoes[role] = (Veto(BUDGET, message),)
        else:
            vetoes[role] = (Veto(BAND, f"{best[role]} instead of {wanted[role]} keeps prefill:decode in its band"),)
    return vetoes
