"""results.json and report.md from the rows."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from e2e.benchmarks.bootstrap import Interval, over_seeds, over_windows
from e2e.benchmarks.cells import GOAL, WORST, CellRows, Verdict, cells, losing_first
from e2e.benchmarks.gates import gates
from e2e.benchmarks.iso import gpu_hours_at
from e2e.benchmarks.matrix import BOUNDS, winner
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.store import Row
from e2e.benchmarks.tables import figure, header, line, share

Winners = Mapping[str, Mapping[str, float]]
TARGETS = (0.95, 0.99)


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
    """The report: the gates, what was won and lost, every cell losing first, every policy of every cell."""
    lines = ["# Headrace against its baselines", "", *(f"- {note}" for note in notes), "", *_gates(found)]
    for target in TARGETS:
        if target == TARGETS[0] or any(cell.bound(bound, target) for cell in found for bound in BOUNDS):
            lines += _table(losing_first(found, target), target)
    lines += _equal_cost(losing_first(found, TARGETS[0]))
    lines += _everything(losing_first(found, TARGETS[0]))
    return "\n".join(lines) + "\n"


def _gates(found: Sequence[CellRows]) -> list[str]:
    lines = ["## Gates", "", *header("gate", "measured", "limit", "verdict")]
    for gate in gates(found, TARGETS[0]):
        verdict = "does not apply" if gate.passed is None else "passed" if gate.passed else "FAILED"
        lines.append(line(gate.name, gate.measured, gate.limit, verdict))
    return [*lines, ""]


def summary(found: Sequence[CellRows], target: float) -> str:
    """One sentence with the number of cells of each verdict."""
    count = {verdict: sum(cell.verdict(target) is verdict for cell in found) for verdict in Verdict}
    alone = sum(cell.ratio(target) == 0.0 for cell in found)
    return (
        f"{len(found)} cells at {target:.0%} attainment: {count[Verdict.WON]} won (at most {GOAL:g} of the best "
        f"baseline's GPU-hours; in {alone} Headrace alone attains it), {count[Verdict.BETWEEN]} between, "
        f"{count[Verdict.LOST]} lost (above {WORST:g}, or only a baseline attains it), {count[Verdict.NOBODY]} that "
        "nobody attains."
    )


def _table(found: Sequence[CellRows], target: float) -> list[str]:
    lines = [
        f"## GPU-hours at {target:.0%} attainment, the losing cells first", "", summary(found, target),
        "The bound is the cheaper of static in hindsight and the clairvoyant.", "",
    ]  # fmt: skip
    lines += header(
        "", "trace", "fleet", "objective", "delay s", "Headrace", "best baseline", "", "ratio", "95 % CI", "static",
        "clairvoyant", "bound", "Headrace / bound", "default run", "after 10 min", "reversals/h",
    )  # fmt: skip
    for cell in found:
        mine, best, bound = gpu_hours_at(cell.points(HEADRACE), target), cell.best(target), cell.cheapest_bound(target)
        default = cell.default_point
        lines.append(line(
            cell.verdict(target).value, *cell.name[:3], f"{cell.name[3]:g}", figure(mine) if mine else "not attained",
            best[0] if best else "none attains", figure(best[1] if best else None), _ratio(cell.ratio(target)),
            _interval(over_seeds(cell, lambda drawn: drawn.ratio(target)), _ratio),
            figure(cell.bound("static", target)), figure(cell.bound("clairvoyant", target)), bound[0] if bound else "-",
            figure(mine / bound[1] if mine and bound else None),
            f"{default.attainment:.1%} at {default.gpu_hours:.2f}" if default else "-",
            share(_column(cell.default, "attainment_warm")), figure(_column(cell.default, "reversals_per_hour"), 1),
        ))  # fmt: skip
    return [*lines, ""]


def _equal_cost(found: Sequence[CellRows]) -> list[str]:
    judged = [cell for cell in found if cell.default_point is not None]
    ahead = sum((points := cell.points_ahead()) is None or points >= 0.0 for cell in judged)
    mean = _mean_ahead(judged)
    text = f"In {ahead} of {len(judged)} cells no baseline attains more at the same GPU-hours."
    if mean is not None:
        interval = _interval(over_windows(judged, _mean_ahead))
        text += f" Where one is as cheap, Headrace is {mean:+.1f} points ahead (95 % CI over windows: {interval})."
    lines = ["## Attainment at the GPU-hours of Headrace's default", "", text, ""]
    lines += header("trace", "objective", "delay s", "GPU-hours", "Headrace", "best baseline", "", "points", "95 % CI")
    for cell in judged:
        mine, best, points = cell.default_point, cell.best_at_equal_cost(), cell.points_ahead()
        assert mine is not None
        lines.append(line(
            cell.name[0], cell.name[2], f"{cell.name[3]:g}", figure(mine.gpu_hours), share(mine.attainment),
            best[0] if best else "none is as cheap", share(best[1] if best else None),
            "-" if points is None else f"{points:+.1f}", _interval(over_seeds(cell, CellRows.points_ahead)),
        ))  # fmt: skip
    return [*lines, ""]


def _mean_ahead(found: Sequence[CellRows]) -> float | None:
    ahead = [points for cell in found if (points := cell.points_ahead()) is not None]
    return fmean(ahead) if ahead else None


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
    policy = row["policy"] if row["reached"] else f"{row['policy']} (not attained)"
    return line(
        cell.name[0], f"{cell.name[3]:g}", policy, f"{row['knob']:g}", figure(row["gpu_hours"]),
        f"{row['attainment']:.1%}", share(row.get("attainment_warm")), figure(row["ttft_p50_s"]),
        figure(row["ttft_p95_s"]),
        "-" if tpot_s is None else f"{1e3 * tpot_s:.1f}", row["actions"], f"{row['reversals_per_hour']:.1f}",
        row["dropped"], row["retractions"],
    )  # fmt: skip


def _ratio(value: float) -> str:
    if math.isnan(value):
        return "nobody"
    if math.isinf(value):
        return "not attained"
    return f"{value:.2f}" if value else "Headrace alone"


def _interval(found: Interval | None, shown: Callable[[float], str] = "{:+.1f}".format) -> str:
    return "-" if found is None else f"{shown(found[0])} to {shown(found[1])}"


def _column(rows: Sequence[Row], column: str) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return fmean(values) if values else None
