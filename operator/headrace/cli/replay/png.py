"""The picture of a replay as PNG, by matplotlib (an extra)."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace.cli.replay.panels import Panel
from headrace.cli.replay.style import COLOURS

_WIDTHS = {"recorded": 4.0, "replayed": 1.6}


def draw_png(panels: Sequence[Panel], title: str, note: str, path: Path) -> None:
    """One chart below the other."""
    import matplotlib  # noqa: PLC0415  an extra that only this needs

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  after the backend is chosen

    figure, axes = plt.subplots(
        len(panels), 1, figsize=(10, 2.4 * len(panels)), sharex=True, squeeze=False, layout="constrained"
    )
    figure.suptitle(f"{title}\n{note}", fontsize=10, x=0.01, ha="left")
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        _chart(axis, panel)
    figure.autofmt_xdate()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _chart(axis: Any, panel: Panel) -> None:
    for line in panel.lines:
        colour, width = COLOURS[line.style][0], _WIDTHS.get(line.style, 1.0)
        draw = axis.step if line.step else axis.plot
        how = {"where": "post"} if line.step else {}
        for index, part in enumerate(line.parts):
            times = [datetime.fromtimestamp(at, UTC) for at, _ in part]
            label = line.label if index == 0 else None
            draw(times, [value for _, value in part], color=colour, linewidth=width, label=label, **how)
    axis.set_ylim(bottom=0)
    if panel.whole:
        axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_title(f"{panel.title}: {panel.unit}", loc="left", fontsize=10)
    axis.grid(alpha=0.3)
    if len(panel.lines) > 1:
        axis.legend(loc="upper left", frameon=False, fontsize=8, ncols=3)
