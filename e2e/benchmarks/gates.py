"""The gates of the comparison, each measured in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from e2e.benchmarks.cells import GOAL, WORST, CellRows, Verdict
from e2e.benchmarks.iso import gpu_hours_at
from e2e.benchmarks.registry import HEADRACE

WON_SHARE = 0.80  # of the cells that some policy or the clairvoyant attains
NEAR_BOUND = 1.20  # of the clairvoyant's GPU-hours ...
NEAR_BOUND_TRACES, NEAR_BOUND_DELAY_S = "azure2024", 60.0  # ... on these windows at this start-up delay
REVERSALS = 6.0  # an hour


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. `passed` is None where no cell says anything about it."""

    name: str
    measured: str
    limit: str
    passed: bool | None


def gates(found: Sequence[CellRows], target: float) -> list[Gate]:
    """The gates at an attainment of `target` (0..1), each over the cells that say something about it."""
    return [_won(found, target), _worst(found, target), _near_bound(found, target), *_steady(found)]


def _won(found: Sequence[CellRows], target: float) -> Gate:
    """A cell that nobody attains counts as not won where the clairvoyant attains it; else it is left out."""
    nobody = [cell for cell in found if cell.verdict(target) is Verdict.NOBODY]
    impossible = sum(cell.bound("clairvoyant", target) is None for cell in nobody)
    possible = len(found) - impossible
    won = sum(cell.verdict(target) is Verdict.WON for cell in found)
    measured = f"{won} of {possible}" + (f" ({won / possible:.0%})" if possible else "")
    measured += f"; nobody attains {len(nobody) - impossible} of these, nor the clairvoyant {impossible} more"
    return Gate(
        f"cells at most {GOAL:g} of the best baseline at {target:.0%}, or alone", measured, f">= {WON_SHARE:.0%}",
        won >= WON_SHARE * possible if possible else None,
    )  # fmt: skip


def _worst(found: Sequence[CellRows], target: float) -> Gate:
    lost = [cell for cell in found if cell.verdict(target) is Verdict.LOST]
    missed = sum(cell.ratio(target) == float("inf") for cell in lost)
    judged = any(cell.verdict(target) is not Verdict.NOBODY for cell in found)
    return Gate(
        f"cells above {WORST:g} of the best baseline",
        f"{len(lost) - missed} dearer, {missed} that only a baseline attains", "0", not lost if judged else None,
    )  # fmt: skip


def _near_bound(found: Sequence[CellRows], target: float) -> Gate:
    parts: list[str] = []
    passed: list[bool] = []
    for cell in found:
        trace, delay_s = cell.name[0], cell.name[3]
        bound = cell.bound("clairvoyant", target)
        if NEAR_BOUND_TRACES not in trace or delay_s != NEAR_BOUND_DELAY_S or bound is None:
            continue
        mine = gpu_hours_at(cell.points(HEADRACE), target)
        passed.append(mine is not None and mine <= NEAR_BOUND * bound)
        parts.append(f"{trace}: " + (f"{mine / bound:.2f}" if mine is not None else "not attained"))
    return Gate(
        f"GPU-hours over the clairvoyant's, {NEAR_BOUND_TRACES} at {NEAR_BOUND_DELAY_S:g} s",
        "; ".join(parts) or "no such cell", f"<= {NEAR_BOUND:.2f}", all(passed) if passed else None,
    )  # fmt: skip


def _steady(found: Sequence[CellRows]) -> list[Gate]:
    """What the product's default did in every run."""
    rows = [row for cell in found for row in cell.default]
    dropped = sum(row["dropped"] for row in rows)
    turns = [row["reversals_per_hour"] for row in rows]
    above = sum(turn > REVERSALS for turn in turns)
    reversals = f"at most {max(turns):.1f}; {above} of {len(turns)} runs above" if turns else "no run"
    return [
        Gate("requests dropped", str(dropped), "0", dropped == 0 if rows else None),
        Gate("reversals an hour in every run", reversals, f"<= {REVERSALS:g}", not above if rows else None),
    ]
