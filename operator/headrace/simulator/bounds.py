"""Bounds that stand beside every policy: static in hindsight and the feasible clairvoyant."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.simulator.cell import Cell, mean_need, run_cell
from headrace.simulator.clairvoyant import ClairvoyantPolicy, needs
from headrace.simulator.request import Arrival
from headrace.simulator.results import MissBudget, RunResult, Slo
from headrace.simulator.static_policy import StaticPolicy

FACTOR_STEP = 1.25  # between two tries of the clairvoyant's factor until the least one is enclosed
FACTOR_PRECISION = 1.04  # how closely it is then found: replicas are whole, so less makes no other schedule
MOST_FACTOR = 3.0  # three times the need is dearer than any static fleet: what misses then, misses at the start
LEAST_FACTOR = 0.2  # a fleet that attains the target with this is at its lower bounds throughout
SLOT_MISSES = 0.4  # of the misses are granted to every slot; the rest is for the start and the worst bursts
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
    """The clairvoyant's cheapest run that reaches the target, or the one that came nearest when none does."""

    factor: float
    result: RunResult
    reached: bool


def clairvoyant(
    cell: Cell, arrivals: Sequence[Arrival], horizon_s: float, slo: Slo, target: float, *, initial: Mapping[Role, int]
) -> Clairvoyant:
    """The least common factor on the needs of all slots and roles with which the simulated attainment is `target`.

    Steps from 1 until it is enclosed, then bisection; runs that miss too often are given up early, so that five cost
    about three. It is feasible from `initial` replicas: where the first minutes alone cost the target it is dear or not
    reached at all, and static in hindsight, which begins with its own replicas, is the lower bound.
    """
    need = needs(cell.profile, cell.topology, arrivals, horizon_s, slo, SLOT_MISSES * (1.0 - target))
    misses = int((1.0 - target) * len(arrivals))

    def run(factor: float, budget: MissBudget | None) -> RunResult:
        policy = ClairvoyantPolicy(need, factor, cell.delay_s)
        return run_cell(cell, policy, arrivals, horizon_s, initial, budget=budget)

    low, high, factor = 0.0, math.inf, 1.0
    best: tuple[float, RunResult] | None = None
    while high > LEAST_FACTOR and (low <= 0.0 or high / low > FACTOR_PRECISION):
        result = run(factor, MissBudget(slo, misses))
        if not result.gave_up and result.attainment(slo) >= target:
            high = factor
            if best is None or result.gpu_hours < best[1].gpu_hours:
                best = factor, result
        elif factor >= MOST_FACTOR:
            return Clairvoyant(factor, run(factor, None), reached=False)
        else:
            low = factor
        factor = _next(low, high)
    assert best is not None  # noqa: S101 - the loop ends with a factor that reached the target
    return Clairvoyant(*best, reached=True)


def _next(low: float, high: float) -> float:
    if math.isinf(high):
        return min(low * FACTOR_STEP, MOST_FACTOR)
    return math.sqrt(low * high) if low > 0.0 else high / FACTOR_STEP
