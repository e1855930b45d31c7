"""How much load a window is scaled to: as much as a static fleet of so many replicas just carries."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.api.roles import Role
from headrace.simulator.cell import Cell, mean_need, run_cell
from headrace.simulator.request import Arrival
from headrace.simulator.results import MissBudget, RunResult, Slo
from headrace.simulator.static_policy import StaticPolicy

EXCESS = 1.4  # static in hindsight over the mean load, typical of these traces: where the search starts
STEP = 1.5  # factor between two tries until the answer is enclosed
PRECISION = 1.04  # of the factor: two thirds of one replica in sixteen
TRIES = 20  # a factor of 1.5^20 = 3,300 below the start: an objective that fails there cannot be met

Load = Callable[[float], Sequence[Arrival]]
Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Scaled:
    """The load factor, and the static fleet that just carries it."""

    factor: float
    replicas: dict[Role, int]
    result: RunResult


class _Search:
    def __init__(self, cell: Cell, load: Load, horizon_s: float, slo: Slo, target: float) -> None:
        self.cell, self.load, self.horizon_s, self.slo, self.target = cell, load, horizon_s, slo, target
        self.roles = cell.profile.roles(cell.topology)
        self.settled = False  # the split was chosen at a load that was too much: it hardly depends on the load

    def run(self, arrivals: Sequence[Arrival], counts: Counts) -> RunResult:
        """One static fleet, stopped when it has missed too often."""
        fleet = dict(zip(self.roles, counts, strict=True))
        budget = MissBudget(self.slo, int((1.0 - self.target) * len(arrivals)))
        return run_cell(self.cell, StaticPolicy(fleet), arrivals, self.horizon_s, fleet, budget=budget)

    def reached(self, result: RunResult) -> bool:
        return not result.gave_up and result.attainment(self.slo) >= self.target

    def met(self, result: RunResult) -> int:
        """Requests within the objective before the run ended or was given up."""
        return int(result.records.met(self.slo).sum())

    def carries(self, factor: float, counts: Counts) -> tuple[Counts, RunResult, bool]:
        """Whether the replicas carry the load in this split or one beside it; the better split."""
        arrivals = self.load(factor)
        best, found = counts, self.run(arrivals, counts)
        while not self.reached(found):
            if self.settled:
                return best, found, False
            better = max(
                ((near, self.run(arrivals, near)) for near in _beside(best) if near != counts),
                key=lambda tried: (self.reached(tried[1]), self.met(tried[1])),
                default=None,
            )
            if better is None or self.met(better[1]) <= self.met(found):
                self.settled = True
                return best, found, False
            counts, (best, found) = best, better
        return best, found, True

    def beside(self, factor: float, counts: Counts) -> Counts | None:
        """A neighbouring split that carries a load which this one does not."""
        arrivals = self.load(factor)
        return next((near for near in _beside(counts) if self.reached(self.run(arrivals, near))), None)


def _beside(counts: Counts) -> list[Counts]:
    """The splits with one replica moved."""
    if len(counts) == 1:
        return []
    prefill, decode = counts
    return [(p, prefill + decode - p) for p in (prefill - 1, prefill + 1) if 1 <= p < prefill + decode]


def _split(need: dict[Role, float], replicas: int) -> Counts:
    if len(need) == 1:
        return (replicas,)
    share = need[Role.PREFILL] / max(sum(need.values()), 1e-9)
    prefill = min(max(round(share * replicas), 1), replicas - 1)
    return (prefill, replicas - prefill)


def load_scale(cell: Cell, load: Load, horizon_s: float, slo: Slo, *, target: float, replicas: int) -> Scaled | None:
    """The largest factor on the load that `replicas` static replicas, split as suits best, carry at `target`.

    Found by bisection to 4 %, so that one replica fewer does not carry it. None when no load is small enough: then the
    objective cannot be met on this fleet.
    """
    search = _Search(cell, load, horizon_s, slo, target)
    need = mean_need(cell.profile, cell.topology, load(1.0), horizon_s)
    counts = _split(need, replicas)
    factor = replicas / (EXCESS * max(sum(need.values()), 1e-9))
    low: Scaled | None = None
    high = math.inf
    for _ in range(TRIES):
        counts, found, reached = search.carries(factor, counts)
        if reached:
            low = Scaled(factor, dict(zip(search.roles, counts, strict=True)), found)
        else:
            high = factor
        if low is not None and high / low.factor <= PRECISION:
            better = search.beside(low.factor * PRECISION**2, counts)
            if better is None:
                break
            counts, high = better, low.factor * STEP  # a neighbouring split carries more than this one can
        factor = _next(low.factor if low else None, high)
    return low


def _next(low: float | None, high: float) -> float:
    """The next factor: downwards until one carries, upwards until one does not, then between the two."""
    if low is None:
        return high / STEP
    return low * STEP if math.isinf(high) else math.sqrt(low * high)
