"""results.json and report.md from the rows."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2e.benchmarks.iso import Point, attainment_at, gpu_hours_at
from e2e.benchmarks.matrix import BOUNDS, winner
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.store import Row
from e2e.benchmarks.tables import figure, header, line, share

Winners = Mapping[str, Mapping[str, float]]
GOAL, WORST = 0.85, 1.05  # of the best baseline's GPU-hours: what counts as won, and what as lost
TARGETS = (0.95, 0.99)


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
        """GPU-hours of a bound computed for `target`, where it was reached."""
        found = [r for r in self.rows.get(policy, ()) if r["knob"] == target and r["reached"]]
        return _mean(found, "gpu_hours") if found else None

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


def results(rows: Iterable[Row], winners: Winners) -> list[Row]:
    """The rows with their variant. A knob that is default and winner at once makes a row of each variant."""
    return [
        {k: v for k, v in row.items() if k != "key"} | {"variant": variant}
        for row in rows
        for variant in variants(row, winners)
    ]


def variants(row: Row, winners: Winners) -> list[str]:
    """`default`, `grid` (the winner tuned on other windows), the knob's value, or a bound's target."""
    policy, knob = row["policy"], row["knob"]
    if policy in BOUNDS:
        return [f"{knob:g}"]
    named = ["default"] if knob == entry(policy).default else []
    if knob == winner(winners, policy, row["delay_s"]):
        named.append("grid")
    return named or [f"{knob:g}"]


def write(rows: Sequence[Row], delays: Sequence[float], winners: Winners, directory: Path, notes: Sequence[str]) -> str:
    """Write results.json and report.md; returns the report."""
    kept = results(rows, winners)
    (directory / "results.json").write_text(json.dumps({"rows": kept, "notes": list(notes)}, indent=1) + "\n")
    text = markdown(cells(rows, delays), notes)
    (directory / "report.md").write_text(text, encoding="utf-8")
    return text


def markdown(found: Sequence[CellRows], notes: Sequence[str]) -> str:
    """The report: what was won and lost, every cell losing first, every policy of every cell."""
    lines = ["# Headrace against its baselines", "", *notes, ""]
    for target in TARGETS:
        if target == TARGETS[0] or any(cell.bound("clairvoyant", target) for cell in found):
            lines += _table(losing_first(found, target), target)
    lines += _equal_cost(losing_first(found, TARGETS[0]))
    lines += _everything(losing_first(found, TARGETS[0]))
    return "\n".join(lines) + "\n"


def summary(found: Sequence[CellRows], target: float) -> str:
    """One sentence with the shares of cells."""
    ratios = [cell.ratio(target) for cell in found]
    judged = [r for r in ratios if not math.isnan(r)]
    won, lost = sum(r <= GOAL for r in judged), sum(r > WORST for r in judged)
    return (
        f"At {target:.0%} attainment, of {len(judged)} cells that some policy attains: {won} at most {GOAL:g} of the "
        f"best baseline's GPU-hours, {len(judged) - won - lost} between, {lost} above {WORST:g} (or not attained); "
        f"{len(ratios) - len(judged)} cells that none attains."
    )


def _table(found: Sequence[CellRows], target: float) -> list[str]:
    lines = [f"## GPU-hours at {target:.0%} attainment, the losing cells first", "", summary(found, target), ""]
    lines += header(
        "trace", "fleet", "objective", "delay s", "Headrace", "best baseline", "", "ratio", "static", "clairvoyant",
        "Headrace / clairvoyant", "Headrace's default run",
    )  # fmt: skip
    for cell in found:
        mine, best = gpu_hours_at(cell.points(HEADRACE), target), cell.best(target)
        bound = cell.bound("clairvoyant", target)
        default = next((p for p in cell.points(HEADRACE) if p.knob == entry(HEADRACE).default), None)
        lines.append(line(
            *cell.name[:3], f"{cell.name[3]:g}", figure(mine), best[0] if best else "none attains",
            figure(best[1] if best else None), _ratio(cell.ratio(target)), figure(cell.bound("static", target)),
            figure(bound), f"{mine / bound:.2f}" if mine and bound else "-",
            f"{default.attainment:.1%} at {default.gpu_hours:.2f}" if default else "-",
        ))  # fmt: skip
    return [*lines, ""]


def _equal_cost(found: Sequence[CellRows]) -> list[str]:
    lines = ["## Attainment at the GPU-hours of Headrace's default", ""]
    lines += header("trace", "delay s", "GPU-hours", "Headrace", "best baseline", "", "points")
    for cell in found:
        default = next((p for p in cell.points(HEADRACE) if p.knob == entry(HEADRACE).default), None)
        if default is None:
            continue
        at = [(p, a) for p in cell.baselines if (a := attainment_at(cell.points(p), default.gpu_hours)) is not None]
        best = max(at, key=lambda pair: pair[1]) if at else None
        lines.append(line(
            cell.name[0], f"{cell.name[3]:g}", figure(default.gpu_hours), f"{default.attainment:.1%}",
            best[0] if best else "none is as cheap", f"{best[1]:.1%}" if best else "-",
            f"{100 * (default.attainment - best[1]):+.1f}" if best else "-",
        ))  # fmt: skip
    return [*lines, ""]


def _everything(found: Sequence[CellRows]) -> list[str]:
    lines = ["## Every run", ""]
    lines += header(
        "trace", "delay s", "policy", "knob", "GPU-hours", "attainment", "after 10 min", "TTFT p50 s", "TTFT p95 s",
        "TPOT p95 ms", "actions", "reversals/h", "dropped", "retractions",
    )  # fmt: skip
    for cell in found:
        for policy in (HEADRACE, *cell.baselines, *BOUNDS):
            lines += [
                _run(cell, row) for row in sorted(cell.rows.get(policy, ()), key=lambda r: (r["knob"], r["seed"]))
            ]
    return [*lines, ""]


def _run(cell: CellRows, row: Row) -> str:
    tpot_s = row["tpot_p95_s"]
    policy = row["policy"] if row["reached"] else f"{row['policy']} (not attained, run cut short)"
    return line(
        cell.name[0], f"{cell.name[3]:g}", policy, f"{row['knob']:g}", figure(row["gpu_hours"]),
        f"{row['attainment']:.1%}", share(row.get("attainment_warm")), figure(row["ttft_p50_s"]),
        figure(row["ttft_p95_s"]),
        "-" if tpot_s is None else f"{1e3 * tpot_s:.1f}", row["actions"], f"{row['reversals_per_hour']:.1f}",
        row["dropped"], row["retractions"],
    )  # fmt: skip


def _ratio(value: float) -> str:
    if math.isnan(value):
        return "none attains"
    if math.isinf(value):
        return "not attained"
    return f"{value:.2f}" if value else "Headrace alone"


def _mean(rows: Sequence[Row], column: str) -> float:
    return float(sum(row[column] for row in rows)) / len(rows)
