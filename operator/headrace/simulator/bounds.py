"""Bounds that stand beside every policy: static in hindsight, the feasible clairvoyant, and the load scale they set."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.api.roles import Role
from headrace.simulator.cell import Cell, mean_need, run_cell
from headrace.simulator.clairvoyant import ClairvoyantPolicy, needs
from headrace.simulator.request import Arrival
from headrace.simulator.results import MissBudget, RunResult, Slo
from headrace.simulator.static_policy import StaticPolicy

FACTOR_STEPS = 6  # bisections of the clairvoyant's factor between 0.5 and 4: to within 5 %
FACTORS = (0.5, 4.0)
SCALE_ROUNDS = 6  # each round costs one search of the static fleet
GUESS = 1.25  # static fleets need more than their mean load; the search starts here

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Static:
    """The cheapest constant fleet that reaches the target, or the largest tried when none does."""

    replicas: Mapping[Role, int]
    result: RunResult
    reached: bool

    @property
    def total(self) -> int:
        """Replicas in all."""
        return sum(self.replicas.values())


class _Trials:
    """Runs of constant fleets, each made once and stopped as soon as it has missed too often."""

    def __init__(self, cell: Cell, arrivals: Sequence[Arrival], horizon_s: float, slo: Slo, target: float) -> None:
        self.cell, self.arrivals, self.horizon_s = cell, arrivals, horizon_s
        self.slo, self.target = slo, target
        self.roles = cell.profile.roles(cell.topology)
        self.runs: dict[Counts, RunResult] = {}

    def run(self, counts: Counts) -> RunResult:
        if counts not in self.runs:
            fleet = dict(zip(self.roles, counts, strict=True))
            budget = MissBudget(self.slo, int((1.0 - self.target) * len(self.arrivals)))
            self.runs[counts] = run_cell(
                self.cell, StaticPolicy(fleet), self.arrivals, self.horizon_s, fleet, budget=budget
            )
        return self.runs[counts]

    def reaches(self, counts: Counts) -> bool:
        found = self.run(counts)
        return not found.gave_up and found.attainment(self.slo) >= self.target

    def met(self, counts: Counts) -> int:
        """Requests within the objective before the run ended or was given up: later is better."""
        return int(self.run(counts).records.met(self.slo).sum())


def static_in_hindsight(
    cell: Cell, arrivals: Sequence[Arrival], horizon_s: float, slo: Slo, target: float, *, guess: Counts | None = None
) -> Static:
    """The fewest constant replicas with which `target` (0..1) of all requests meet both objectives.

    From a guess (a quarter above the mean load) the fleet grows, one replica of the role that helps more at a time,
    until it reaches the target, then each role shrinks while it still does. Prefill and decode bind different
    objectives, so a fleet that can lose neither is the smallest. Costs about 6 simulations.
    """
    trials = _Trials(cell, arrivals, horizon_s, slo, target)
    if guess is None:
        mean = mean_need(cell.profile, cell.topology, arrivals, horizon_s)
        guess = tuple(math.ceil(GUESS * mean[role]) for role in trials.roles)
    counts = tuple(min(max(count, cell.minimum), cell.maximum) for count in guess)
    while not trials.reaches(counts):
        grown = [more for i in range(len(counts)) if (more := _changed(counts, i, 1))[i] <= cell.maximum]
        if not grown:
            break
        counts = max(grown, key=trials.met) if len(grown) > 1 else grown[0]
    for i in range(len(counts)):
        while counts[i] > cell.minimum and trials.reaches(counts) and trials.reaches(_changed(counts, i, -1)):
            counts = _changed(counts, i, -1)
    return Static(dict(zip(trials.roles, counts, strict=True)), trials.run(counts), trials.reaches(counts))


def _changed(counts: Counts, index: int, by: int) -> Counts:
    return tuple(count + by if i == index else count for i, count in enumerate(counts))


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """The clairvoyant's cheapest run that reaches the target, or its dearest when none does."""

    factor: float
    result: RunResult
    reached: bool


def clairvoyant(
    cell: Cell, arrivals: Sequence[Arrival], horizon_s: float, slo: Slo, target: float, *, initial: Mapping[Role, int]
) -> Clairvoyant:
    """The least common factor on the needs of all slots and roles with which the simulated attainment is `target`."""
    need = needs(cell.profile, cell.topology, arrivals, horizon_s, slo.tpot_s)

    def run(factor: float) -> RunResult:
        return run_cell(cell, ClairvoyantPolicy(need, factor, cell.delay_s), arrivals, horizon_s, initial)

    low, high = FACTORS
    best = run(high)
    if best.attainment(slo) < target:
        return Clairvoyant(high, best, reached=False)
    for _ in range(FACTOR_STEPS):
        middle = 0.5 * (low + high)
        found = run(middle)
        if found.attainment(slo) >= target:
            high, best = middle, found
        else:
            low = middle
    return Clairvoyant(high, best, reached=True)


def scale_for(
    cell: Cell,
    load: Callable[[float], Sequence[Arrival]],
    horizon_s: float,
    slo: Slo,
    *,
    target: float = 0.95,
    replicas: int = 16,
) -> tuple[float, Static]:
    """The load factor at which static in hindsight needs `replicas` in all, and that static fleet.

    `load(factor)` gives the scaled arrivals. Proportional steps from the mean load; the nearest found is returned when
    no factor gives exactly `replicas`, as happens where replicas come in steps of two.
    """
    roomy = replace(cell, maximum=max(cell.maximum, 4 * replicas))
    mean = sum(mean_need(cell.profile, cell.topology, load(1.0), horizon_s).values())
    factor = replicas / (GUESS * max(mean, 1e-9))
    best: tuple[float, Static] | None = None
    guess: Counts | None = None
    for _ in range(SCALE_ROUNDS):
        found = static_in_hindsight(roomy, load(factor), horizon_s, slo, target, guess=guess)
        if best is None or abs(found.total - replicas) < abs(best[1].total - replicas):
            best = factor, found
        if found.total == replicas:
            break
        factor *= replicas / found.total
        guess = tuple(round(count * replicas / found.total) for count in found.replicas.values())
    assert best is not None  # noqa: S101 - at least one round was made
    return best
