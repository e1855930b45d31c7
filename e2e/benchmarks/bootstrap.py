"""Bootstrap intervals: seeds within a cell, windows over cells, always the same draw for every policy."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from e2e.benchmarks.cells import CellRows

SAMPLES = 400  # the ends of a 95 % interval then move by about a twentieth of its width from draw to draw
LEVELS = (2.5, 97.5)

Interval = tuple[float, float]


def over_seeds(cell: CellRows, statistic: Callable[[CellRows], float | None]) -> Interval | None:
    """95 % interval of a statistic of one cell; None with a single seed, or where most draws give no value.

    A seed is one draw of copies and jitter, the same for all policies, so they are drawn together: paired by window.
    """
    seeds = cell.seeds
    if len(seeds) < 2:
        return None
    rng = np.random.default_rng(0)
    drawn = [statistic(cell.of_seeds(rng.choice(seeds, len(seeds)).tolist())) for _ in range(SAMPLES)]
    return _interval(drawn)


def over_windows(found: Sequence[CellRows], statistic: Callable[[Sequence[CellRows]], float | None]) -> Interval | None:
    """95 % interval of a statistic of all cells, by drawing windows with all their start-up delays; None with one."""
    windows: dict[tuple[str, str, str], list[CellRows]] = defaultdict(list)
    for cell in found:
        windows[cell.name[:3]].append(cell)
    if len(windows) < 2:
        return None
    rng, groups = np.random.default_rng(0), list(windows.values())
    return _interval([
        statistic([cell for i in rng.integers(0, len(groups), len(groups)) for cell in groups[i]])
        for _ in range(SAMPLES)
    ])  # fmt: skip


def _interval(drawn: Sequence[float | None]) -> Interval | None:
    """The middle 95 % of the draws that gave a value. Infinite ones stay at their end."""
    values = sorted(value for value in drawn if value is not None and not math.isnan(value))
    if len(values) <= len(drawn) / 2:
        return None
    low, high = (values[round(level / 100.0 * (len(values) - 1))] for level in LEVELS)
    return low, high
