"""robustness.json and robustness.md: every variant against its reference, and a verdict for each gate."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from e2e.benchmarks.store import Row
from e2e.benchmarks.tables import figure, header, line, share
from e2e.benchmarks.variants import ABLATED, CLIFF, FAULTS, MODELS, REFERENCE, STARTS

POINTS_LOST = 1.0  # of attainment, at most
REVERSALS = 6.0  # an hour, at most
CLIFF_TTFT = 2.0  # p90 of TTFT over its objective at the long start-up, at most
CLIFF_HOURS = 1.15  # GPU-hours at the long start-up over those at the short one, at most
LONG_S, SHORT_S = 180.0, 10.0

HEADRACE, CLAIRVOYANT = "headrace", "clairvoyant"
GATED = frozenset({FAULTS.name, *(v.name for v in MODELS if not v.pinned)})  # where points lost are a gate
ABLATED_NAMES = frozenset(v.name for v in ABLATED)


@dataclass(frozen=True, slots=True)
class Gate:
    """One verdict. `passed` is None where the gate does not apply, and `why` says why not."""

    gate: str
    trace: str
    variant: str
    value: float | None
    limit: float
    passed: bool | None
    why: str = ""


Means = Mapping[tuple[str, str], Row]  # by (policy, variant): the mean over the seeds


def write(rows: Sequence[Row], directory: Path, notes: Sequence[str]) -> str:
    """Write both files; returns the report."""
    found = gates(rows)
    kept = [{k: v for k, v in row.items() if k != "key"} for row in rows]
    record = {"rows": kept, "gates": [asdict(gate) for gate in found], "notes": list(notes)}
    (directory / "robustness.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    text = markdown(rows, found, notes)
    (directory / "robustness.md").write_text(text, encoding="utf-8")
    return text


def means(rows: Sequence[Row]) -> dict[str, Means]:
    """By trace, the mean over seeds of every figure; dropped requests and missing figures are kept as the worst."""
    grouped: dict[str, dict[tuple[str, str], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        grouped[row["trace"]][row["policy"], row["variant"]].append(row)
    return {trace: {key: _mean(found) for key, found in by.items()} for trace, by in grouped.items()}


def _mean(rows: Sequence[Row]) -> Row:
    made = dict(rows[0])
    for name in ("gpu_hours", "attainment", "reversals_per_hour", "actions", "failed_starts"):
        made[name] = fmean(row[name] for row in rows)
    for name in ("attainment_warm", "ttft_p90_of_objective", "ttft_p90_of_objective_warm"):
        values = [row[name] for row in rows if row[name] is not None]
        made[name] = fmean(values) if len(values) == len(rows) else None
    made["dropped"] = max(row["dropped"] for row in rows)
    made["reached"] = all(row["reached"] is not False for row in rows)
    return made


def gates(rows: Sequence[Row]) -> list[Gate]:
    """Every gate of every trace, the failed ones first."""
    found: list[Gate] = []
    for trace, by in means(rows).items():
        mine = {variant: row for (policy, variant), row in by.items() if policy == HEADRACE}
        reference = mine.get(REFERENCE.name)
        for name, row in mine.items():
            if name in ABLATED_NAMES:
                continue
            found.append(Gate("requests dropped", trace, name, row["dropped"], 0, row["dropped"] == 0))
            reversals = row["reversals_per_hour"]
            found.append(Gate("reversals an hour", trace, name, reversals, REVERSALS, reversals <= REVERSALS))
            if name in GATED and reference is not None:
                lost = points_lost(reference, row)
                found.append(Gate("points of attainment lost", trace, name, lost, POINTS_LOST, lost <= POINTS_LOST))
        found += _cliff(trace, by)
    return sorted(found, key=lambda gate: (gate.passed is not False, gate.passed is None))


def points_lost(reference: Row, row: Row) -> float:
    """Points of attainment below the reference. 95.2 % against 96.0 %: 0.8."""
    return 100.0 * float(reference["attainment"] - row["attainment"])


def _cliff(trace: str, by: Means) -> list[Gate]:
    names = (f"start-up={LONG_S:g}", f"start-up={SHORT_S:g}")
    mine, short, bound, bound_short = (by.get((p, name)) for p in (HEADRACE, CLAIRVOYANT) for name in names)
    if mine is None or short is None or bound is None or bound_short is None:
        return []
    late, dearer = mine["ttft_p90_of_objective"], mine["gpu_hours"] / short["gpu_hours"]
    excuse = _excuse(bound, bound_short)

    def judged(gate: str, value: float | None, limit: float) -> Gate:
        """What Headrace attains counts; what it misses counts where the clairvoyant attains it."""
        if value is not None and value <= limit:
            return Gate(gate, trace, names[0], value, limit, passed=True)
        return Gate(gate, trace, names[0], value, limit, passed=None if excuse else False, why=excuse)

    return [
        judged("p90 TTFT over its objective", late, CLIFF_TTFT),
        judged(f"GPU-hours over those at {SHORT_S:g} s", dearer, CLIFF_HOURS),
    ]


def _excuse(bound: Row, short: Row) -> str:
    """Why nobody can be asked to pass the cliff: what the clairvoyant fails at."""
    if not bound["reached"]:
        return f"the clairvoyant does not attain its target at {LONG_S:g} s either"
    late, dearer = bound["ttft_p90_of_objective"], bound["gpu_hours"] / short["gpu_hours"]
    if late is None or late > CLIFF_TTFT:
        return f"the clairvoyant's p90 TTFT is {late or 0.0:.1f} times the objective"
    if dearer > CLIFF_HOURS:
        return f"the clairvoyant itself takes {dearer:.2f} of its GPU-hours at {SHORT_S:g} s"
    return ""


def markdown(rows: Sequence[Row], found: Sequence[Gate], notes: Sequence[str]) -> str:
    """The report."""
    lines = ["# What Headrace loses when things are worse than assumed", "", *(f"- {note}" for note in notes)]
    lines += ["", *_summary(found), *_verdicts(found)]
    for trace, by in means(rows).items():
        lines += [f"## {trace}", "", *_losses(by), *_delays(by)]
    return "\n".join(lines) + "\n"


def _summary(found: Sequence[Gate]) -> list[str]:
    lines = ["## Gates", "", *header("gate", "passed", "failed", "does not apply", "worst")]
    for name in sorted({gate.gate for gate in found}):
        mine = [gate for gate in found if gate.gate == name]
        judged = [gate for gate in mine if gate.passed is not None]
        worst = max((gate.value for gate in judged if gate.value is not None), default=None)
        lines.append(line(
            f"{name} <= {mine[0].limit:g}", sum(gate.passed is True for gate in mine),
            sum(gate.passed is False for gate in mine), len(mine) - len(judged), figure(worst),
        ))  # fmt: skip
    return [*lines, ""]


def _verdicts(found: Sequence[Gate]) -> list[str]:
    shown = [gate for gate in found if not gate.passed]
    if not shown:
        return ["Every gate passed.", ""]
    lines = header("verdict", "gate", "trace", "variant", "value", "limit", "")
    for gate in shown:
        verdict = "FAILED" if gate.passed is False else "does not apply"
        lines.append(
            line(verdict, gate.gate, gate.trace, gate.variant, figure(gate.value), f"{gate.limit:g}", gate.why)
        )
    return [*lines, ""]


def _losses(by: Means) -> list[str]:
    reference = by.get((HEADRACE, REFERENCE.name))
    if reference is None:
        return []
    order = [v.name for v in (REFERENCE, FAULTS, *MODELS, STARTS, *ABLATED)]
    lines = header(
        "variant", "", "attainment", "points lost", "after 10 min", "GPU-hours", "of reference", "p90 TTFT / objective",
        "reversals/h", "dropped", "failed starts",
    )  # fmt: skip
    for name in order:
        row = by.get((HEADRACE, name))
        if row is None:
            continue
        lines.append(line(
            name, row["about"], f"{row['attainment']:.1%}", f"{points_lost(reference, row):+.1f}",
            share(row["attainment_warm"]), figure(row["gpu_hours"]),
            f"{row['gpu_hours'] / reference['gpu_hours']:.2f}", figure(row["ttft_p90_of_objective"]),
            f"{row['reversals_per_hour']:.1f}", row["dropped"], f"{row['failed_starts']:g}",
        ))  # fmt: skip
    return [*lines, ""]


def _delays(by: Means) -> list[str]:
    """The start-up cliff: Headrace beside the clairvoyant."""
    order = sorted((REFERENCE, *CLIFF), key=lambda variant: variant.delay_s)
    lines = header(
        "start-up s", "p90 TTFT / objective", "after 10 min", "attainment", "GPU-hours", f"of {SHORT_S:g} s",
        "clairvoyant: p90 TTFT / objective", "attainment", "GPU-hours", f"of {SHORT_S:g} s",
    )  # fmt: skip
    for variant in order:
        cells: list[Any] = [f"{variant.delay_s:g}"]
        for policy in (HEADRACE, CLAIRVOYANT):
            row, short = by.get((policy, variant.name)), by.get((policy, f"start-up={SHORT_S:g}"))
            if row is None:
                cells += ["-"] * (5 if policy == HEADRACE else 4)
                continue
            of_short = f"{row['gpu_hours'] / short['gpu_hours']:.2f}" if short else "-"
            cells.append(figure(row["ttft_p90_of_objective"]))
            if policy == HEADRACE:
                cells.append(figure(row["ttft_p90_of_objective_warm"]))
            missed = "" if row["reached"] else " (target not attained)"
            cells += [f"{row['attainment']:.1%}{missed}", figure(row["gpu_hours"]), of_short]
        lines.append(line(*cells))
    return [*lines, ""]
