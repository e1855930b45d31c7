"""The rows by cell, and what a cell says: who attains a target with how many GPU-hours, and which bound."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from e2e.benchmarks.iso import Point, attainment_at, gpu_hours_at
from e2e.benchmarks.matrix import BOUNDS
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.store import Row

GOAL, WORST = 0.85, 1.05  # of the best baseline's GPU-hours: what counts as won, and what as lost


class Verdict(StrEnum):
    """What a cell says about Headrace."""

    WON = "won"  # at most 0.85 of the best baseline, or Headrace alone attains the target
    BETWEEN = "between"
    LOST = "lost"  # above 1.05 of it, or only a baseline attains
    NOBODY = "nobody"


@dataclass(slots=True)
class CellRows:
    """All rows of one (trace, fleet, objective, delay)."""

    name: tuple[str, str, str, float]
    rows: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))

    def points(self, policy: str) -> list[Point]:
        """One point a knob, the mean of its seeds. A bound has one for each target it was computed for."""
        by_knob: dict[float, list[Row]] = defaultdict(list)
        for row in self.rows.get(policy, ()):
            by_knob[row["knob"]].append(row)
        return [Point(_mean(r, "gpu_hours"), _mean(r, "attainment"), knob) for knob, r in sorted(by_knob.items())]

    def bound(self, policy: str, target: float) -> float | None:
        """GPU-hours of a bound computed for `target`; None where a seed did not reach it."""
        found = [r for r in self.rows.get(policy, ()) if r["knob"] == target]
        return _mean(found, "gpu_hours") if found and all(r["reached"] for r in found) else None

    def cheapest_bound(self, target: float) -> tuple[str, float] | None:
        """The cheaper of the bounds, with its name: the clairvoyant begins as all policies do, static with its own."""
        reached = [(policy, hours) for policy in BOUNDS if (hours := self.bound(policy, target)) is not None]
        return min(reached, key=lambda found: found[1]) if reached else None

    @property
    def baselines(self) -> list[str]:
        """The policies that are neither Headrace nor bounds."""
        return sorted(p for p in self.rows if p != HEADRACE and p not in BOUNDS)

    def best(self, target: float) -> tuple[str, float] | None:
        """The baseline that attains the target with the fewest GPU-hours."""
        reached = [(p, h) for p in self.baselines if (h := gpu_hours_at(self.points(p), target)) is not None]
        return min(reached, key=lambda found: found[1]) if reached else None

    def ratio(self, target: float) -> float:
        """Headrace over the best baseline, GPU-hours; inf: only a baseline attains, 0: only Headrace, nan: none."""
        mine, best = gpu_hours_at(self.points(HEADRACE), target), self.best(target)
        if mine is None:
            return math.nan if best is None else math.inf
        return 0.0 if best is None else mine / best[1]

    def verdict(self, target: float) -> Verdict:
        """Won, lost, between, or attained by nobody."""
        ratio = self.ratio(target)
        if math.isnan(ratio):
            return Verdict.NOBODY
        return Verdict.WON if ratio <= GOAL else Verdict.LOST if ratio > WORST else Verdict.BETWEEN

    @property
    def default(self) -> list[Row]:
        """Headrace's rows as the product has it, one a seed."""
        return [row for row in self.rows.get(HEADRACE, ()) if row["knob"] == entry(HEADRACE).default]

    @property
    def default_point(self) -> Point | None:
        """The mean of those rows."""
        return Point(_mean(self.default, "gpu_hours"), _mean(self.default, "attainment")) if self.default else None

    def best_at_equal_cost(self) -> tuple[str, float] | None:
        """The baseline that attains most at the GPU-hours of Headrace's default; None where none is as cheap."""
        mine = self.default_point
        if mine is None:
            return None
        at = [(p, a) for p in self.baselines if (a := attainment_at(self.points(p), mine.gpu_hours)) is not None]
        return max(at, key=lambda found: found[1]) if at else None

    def points_ahead(self) -> float | None:
        """Points of attainment ahead of the best baseline at equal GPU-hours; None where none is as cheap."""
        mine, best = self.default_point, self.best_at_equal_cost()
        return None if mine is None or best is None else 100.0 * (mine.attainment - best[1])

    def of_seeds(self, seeds: Sequence[int]) -> "CellRows":
        """The cell as these seeds show it; one that is named twice counts twice, for every policy alike."""
        picked: dict[str, list[Row]] = defaultdict(list)
        for policy, rows in self.rows.items():
            by_seed: dict[int, list[Row]] = defaultdict(list)
            for row in rows:
                by_seed[row["seed"]].append(row)
            picked[policy] = [row for seed in seeds for row in by_seed.get(seed, ())]
        return CellRows(self.name, picked)

    @property
    def seeds(self) -> list[int]:
        """The seeds of Headrace's default."""
        return sorted({row["seed"] for row in self.default})


def cells(rows: Iterable[Row], delays: Sequence[float]) -> list[CellRows]:
    """The rows by cell. A static fleet starts nothing, so that its rows stand in the cell of every delay."""
    found: dict[tuple[str, str, str, float], CellRows] = {}
    for row in rows:
        for delay_s in delays if row["policy"] == "static" else (row["delay_s"],):
            name = (row["trace"], row["fleet"], row["objective"], float(delay_s))
            found.setdefault(name, CellRows(name)).rows[row["policy"]].append(row)
    return list(found.values())


def losing_first(found: Iterable[CellRows], target: float) -> list[CellRows]:
    """The cells where Headrace does worst first; those that nobody attains between lost and won."""

    def order(cell: CellRows) -> tuple[float, tuple[str, str, str, float]]:
        ratio = cell.ratio(target)
        return -(1.0 if math.isnan(ratio) else ratio), cell.name

    return sorted(found, key=order)


def _mean(rows: Sequence[Row], column: str) -> float:
    return float(sum(row[column] for row in rows)) / len(rows)
