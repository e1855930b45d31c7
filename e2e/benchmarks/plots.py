"""One picture a cell: attainment over GPU-hours of every policy, with the bounds."""

import re
from collections.abc import Iterable
from pathlib import Path

from e2e.benchmarks.cells import CellRows
from e2e.benchmarks.iso import frontier
from e2e.benchmarks.matrix import BOUNDS
from e2e.benchmarks.registry import HEADRACE


def pareto(found: Iterable[CellRows], directory: Path) -> None:
    """Write pareto-<cell>.png for every cell."""
    import matplotlib as mpl  # noqa: PLC0415 - only needed when pictures are drawn

    mpl.use("agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    directory.mkdir(parents=True, exist_ok=True)
    for cell in found:
        figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
        for policy in (HEADRACE, *cell.baselines, *BOUNDS):
            points = cell.points(policy)
            if not points:
                continue
            line = frontier(points) if policy not in BOUNDS else points
            bold = policy == HEADRACE
            marker = "*" if policy in BOUNDS else "o"
            drawn = axes.plot(
                [p.gpu_hours for p in line], [100 * p.attainment for p in line], marker=marker,
                linewidth=2.5 if bold else 1.0, markersize=9 if bold or policy in BOUNDS else 5, label=policy,
                linestyle="none" if policy in BOUNDS else "-", zorder=3 if bold else 2,
            )  # fmt: skip
            axes.plot(
                [p.gpu_hours for p in points], [100 * p.attainment for p in points], ".",
                color=drawn[0].get_color(), alpha=0.4,
            )  # fmt: skip
        axes.axhline(95.0, color="grey", linewidth=0.8)
        axes.set_xlabel("GPU-hours")
        axes.set_ylabel("requests within the objective, %")
        trace, fleet, objective, delay_s = cell.name
        axes.set_title(f"{trace}, {fleet}, {objective}, start-up {delay_s:g} s")
        axes.legend(fontsize="small", ncols=2)
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{trace}-{fleet}-{objective}-{delay_s:g}s")
        figure.savefig(directory / f"pareto-{name}.png", dpi=100)
        plt.close(figure)
