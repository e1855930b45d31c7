"""Inline SVG charts that follow the page's light or dark colours. Pure.

Colours are CSS classes (`c-prefill`, `c-decode`, ...), so that one picture reads well on both backgrounds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Point = tuple[float, float | None]

WIDTH, HEIGHT = 960, 190
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 24


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `points` in data units, None for a gap."""

    label: str
    css: str
    points: Sequence[Point]
    step: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Band:
    """A shaded stretch with a name on top: a phase of the load."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Area:
    """A step area between two levels, for stacked counts."""

    label: str
    css: str
    points: Sequence[tuple[float, float, float]]  # x, lower, upper


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart over the seconds of the run."""

    title: str
    unit: str
    end: float
    series: Sequence[Series] = ()
    areas: Sequence[Area] = ()
    bands: Sequence[Band] = ()
    marks: Sequence[tuple[float, str]] = ()  # vertical lines with a tooltip
    limit: tuple[float, str] | None = None  # a horizontal line: the objective
    whole: bool = False  # only whole numbers on the y axis


def nice_top(highest: float, whole: bool = False) -> tuple[float, float]:
    """The top of an axis and its step: 1, 2 or 5 times a power of ten, at most five steps. 0.83 gives (1.0, 0.2)."""
    highest = max(highest, 1 if whole else 1e-9)
    raw = highest / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    step = max(1.0, step) if whole else step
    return math.ceil(highest / step - 1e-9) * step, step


def render(chart: Chart) -> str:
    """The chart as an SVG element."""
    tops = [y for line in chart.series for _, y in line.points if y is not None]
    tops += [upper for area in chart.areas for _, _, upper in area.points]
    if chart.limit:
        tops.append(chart.limit[0])
    top, step = nice_top(max(tops, default=1.0) * (1.0 if chart.whole else 1.05), chart.whole)
    # A count often stands at its maximum: the headroom keeps the names of the bands readable above it.
    frame = _Frame(max(chart.end, 1.0), top + 0.35 * step if chart.whole else top)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *(_band(frame, band, index) for index, band in enumerate(chart.bands)),
        *_grid(frame, step),
        *(_area(frame, area) for area in chart.areas),
        *(_limit(frame, *chart.limit) for _ in [0] if chart.limit),
        *(_mark(frame, x, text) for x, text in chart.marks),
        *(_line(frame, line) for line in chart.series),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class _Frame:
    end: float
    top: float

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(max(value, 0.0), self.end) / self.end, 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top, 1)


def _band(frame: _Frame, band: Band, index: int) -> str:
    x, width = frame.x(band.start), frame.x(band.end) - frame.x(band.start)
    shade = f'<rect class="band{index % 2}" x="{x}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"/>'
    return f'{shade}<text class="bandname" x="{x + 6}" y="{TOP + 13}">{escape(band.label)}</text>'


def _grid(frame: _Frame, step: float) -> list[str]:
    lines = []
    for index in range(math.floor(frame.top / step + 1e-9) + 1):
        y = frame.y(index * step)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{index * step:g}</text>')
    every = next(
        seconds for seconds in (10, 30, 60, 120, 300, 600, 3600) if frame.end / seconds <= 12 or seconds == 3600
    )
    for index in range(int(frame.end // every) + 1):
        text = f"{index * every // 60}:{index * every % 60:02d}"
        lines.append(
            f'<text class="tick" x="{frame.x(index * every)}" y="{HEIGHT - 7}" text-anchor="middle">{text}</text>'
        )
    return lines


def _limit(frame: _Frame, value: float, label: str) -> str:
    y = frame.y(value)
    line = f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
    return f'{line}<text class="limitname" x="{WIDTH - RIGHT - 4}" y="{y - 4}" text-anchor="end">{escape(label)}</text>'


def _mark(frame: _Frame, at: float, text: str) -> str:
    x = frame.x(at)
    line = f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
    return f"<g>{line}<title>{escape(text)}</title></g>"


def _line(frame: _Frame, line: Series) -> str:
    commands: list[str] = []
    previous_y: float | None = None
    for x, y in line.points:
        if y is None:
            previous_y = None
            continue
        if previous_y is None:
            commands.append(f"M{frame.x(x)} {frame.y(y)}")
        elif line.step:
            commands.append(f"H{frame.x(x)}V{frame.y(y)}")
        else:
            commands.append(f"L{frame.x(x)} {frame.y(y)}")
        previous_y = y
    if not commands:
        return ""
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    return f'<path class="line {line.css}"{dash} d="{"".join(commands)}"/>'


def _area(frame: _Frame, area: Area) -> str:
    """Rectangles, one for each stretch of equal levels that has a height."""
    parts = []
    for start, end, lower, upper in _stretches(area.points):
        if upper > lower:
            width, height = frame.x(end) - frame.x(start), frame.y(lower) - frame.y(upper)
            parts.append(f'<rect x="{frame.x(start)}" y="{frame.y(upper)}" width="{width:.1f}" height="{height:.1f}"/>')
    return f'<g class="area {area.css}">{"".join(parts)}</g>' if parts else ""


def _stretches(points: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float, float]]:
    """(start, end, lower, upper) with neighbours of equal levels merged: seams would show as stripes."""
    merged: list[tuple[float, float, float, float]] = []
    for (x, lower, upper), (following, _, _) in pairwise(points):
        if merged and merged[-1][2:] == (lower, upper):
            merged[-1] = (merged[-1][0], following, lower, upper)
        else:
            merged.append((x, following, lower, upper))
    return merged
