"""The picture of a replay, as SVG, as a page with the SVG in it, or as PNG."""

from datetime import UTC, datetime
from html import escape
from importlib.util import find_spec
from math import ceil, floor, log10
from pathlib import Path

import typer

from headrace.cli.replay.panels import Line, Panel, panels
from headrace.cli.replay.png import draw_png
from headrace.cli.replay.style import BINDING_NOTE, CSS, DASHED
from headrace.cli.replay.track import Result, time_text

WIDTH, LEFT, RIGHT = 1000, 46, 16
HEAD, PLOT, FOOT = 44, 150, 40  # heights: title with legend, chart, time axis with space below
STRIP = 7  # the strip that is coloured by the binding constraint
TITLE = 58  # height of the heading
LETTER = 6.3  # mean width of a letter of the legend
TIMES_S = (5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title></head><body>
{picture}
</body></html>
"""
MOST_TIMES = 10  # marks on the axis of time


def check_plot(path: Path | None) -> None:
    """Refuse a picture that can't be made, before anything is computed."""
    if path is None:
        return
    if path.suffix not in {".svg", ".html", ".png"}:
        raise typer.BadParameter(f"{path} has no ending .svg, .html or .png", param_hint="--plot")
    if path.suffix == ".png" and find_spec("matplotlib") is None:
        message = "a PNG needs matplotlib: pip install 'headrace[simulate]', or write .svg or .html"
        raise typer.BadParameter(message, param_hint="--plot")


def draw(result: Result, path: Path) -> None:
    """Write the picture; the ending says what kind."""
    found = panels(result)
    title, note = _title(result), _note(result)
    if path.suffix == ".png":
        draw_png(found, title, note, path)
        return
    picture = svg(found, title, note)
    if path.suffix == ".html":
        picture = PAGE.format(title=escape(title), picture=picture)
    path.write_text(picture, encoding="utf-8")


def _title(result: Result) -> str:
    return f"Replay of {', '.join(result.tracks)}"


def _note(result: Result) -> str:
    times = [at for track in result.tracks.values() for at in track.at]
    parts = [f"{time_text(min(times))} to {time_text(max(times))}"]
    if result.approximate:
        parts.append("APPROXIMATE, from Prometheus")
    if result.changed:
        parts.append("with a change: an estimate, the load is the recorded one")
    return " · ".join(parts)


def svg(found: list[Panel], title: str, note: str) -> str:
    """A picture that stands alone and follows the reader's light or dark colours."""
    height = TITLE + len(found) * (HEAD + PLOT + FOOT)
    times = [x for panel in found for line in panel.lines for part in line.parts for x, _ in part]
    frame = _Times(min(times), max(*times, min(times) + 1.0))
    body = [_panel(panel, frame, TITLE + i * (HEAD + PLOT + FOOT)) for i, panel in enumerate(found)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{CSS}</style>",
            f'<rect class="page" width="{WIDTH}" height="{height}"/>',
            f'<text class="title" x="{LEFT - 26}" y="28">{escape(title)}</text>',
            f'<text class="note" x="{LEFT - 26}" y="47">{escape(note)}</text>',
            *body,
            "</svg>",
        ]
    )


class _Times:
    """The axis of time."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end

    def x(self, at: float) -> float:
        share = (min(max(at, self.start), self.end) - self.start) / (self.end - self.start)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share, 1)

    def marks(self) -> list[tuple[float, str]]:
        span_s = self.end - self.start
        every = next((step for step in TIMES_S if span_s / step <= MOST_TIMES), TIMES_S[-1])
        first, last = ceil(self.start / every), floor(self.end / every)
        form = "%H:%M:%S" if every < 60 else "%H:%M" if every < TIMES_S[-1] else "%m-%d"
        return [(i * every, f"{datetime.fromtimestamp(i * every, UTC):{form}}") for i in range(first, last + 1)]


class _Levels:
    """The vertical axis of one panel: steps of 1, 2 or 5 times a power of ten, at most five of them."""

    def __init__(self, panel: Panel, top_y: float) -> None:
        highest = max(panel.top, 1.0 if panel.whole else 1e-3)
        power = 10.0 ** floor(log10(highest / 5))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= highest / 5 * (1 - 1e-9))
        self.step = max(1.0, step) if panel.whole else step
        self.marked = ceil(highest / self.step - 1e-9) * self.step
        self.top = self.marked + 0.1 * self.step  # the line at the highest mark is drawn whole
        self.top_y = top_y

    def y(self, value: float) -> float:
        return round(self.top_y + PLOT * (1.0 - min(value, self.top) / self.top), 1)

    def marks(self) -> list[float]:
        return [i * self.step for i in range(round(self.marked / self.step) + 1)]


def _panel(panel: Panel, frame: _Times, offset: float) -> str:
    levels = _Levels(panel, offset + HEAD)
    bottom = offset + HEAD + PLOT
    parts = [
        f'<text class="name" x="{LEFT - 26}" y="{offset + 16}">{escape(panel.title)}'
        f'<tspan class="unit" dx="8">{escape(panel.unit)}</tspan></text>',
        _legend(panel, offset + 34),
    ]
    for value in levels.marks():
        y = levels.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="mark" x="{LEFT - 7}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for at, text in frame.marks():
        x = frame.x(at)
        anchor = "end" if x > WIDTH - 2 * RIGHT else "middle"
        parts.append(f'<text class="mark" x="{x}" y="{bottom + STRIP + 16}" text-anchor="{anchor}">{text}</text>')
    parts += [_line(line, frame, levels) for line in panel.lines]
    parts += _hover(panel, frame, offset + HEAD, bottom)
    return "\n".join(part for part in parts if part)


def _legend(panel: Panel, y: float) -> str:
    x, parts = float(LEFT), []
    entries = [(line.label, line.style) for line in reversed(panel.lines)]
    for label, style in entries if len(entries) > 1 else []:
        dash = " dash" if style in DASHED else ""
        parts.append(f'<line class="line c-{style}{dash}" x1="{x:.0f}" x2="{x + 18:.0f}" y1="{y - 4}" y2="{y - 4}"/>')
        parts.append(f'<text class="key" x="{x + 23:.0f}" y="{y}">{escape(label)}</text>')
        x += 23 + LETTER * len(label) + 14
    if panel.stretches:
        parts.append(f'<text class="unit" x="{WIDTH - RIGHT}" y="{y}" text-anchor="end">{BINDING_NOTE}</text>')
    return "".join(parts)


def _line(line: Line, frame: _Times, levels: _Levels) -> str:
    commands = []
    for part in line.parts:
        for i, (at, value) in enumerate(part):
            x, y = frame.x(at), levels.y(value)
            commands.append(f"M{x} {y}" if i == 0 else f"H{x}V{y}" if line.step else f"L{x} {y}")
    return f'<path class="line c-{line.style}" d="{"".join(commands)}"/>'


def _hover(panel: Panel, frame: _Times, top: float, bottom: float) -> list[str]:
    """The strip of binding constraints, and over the chart what was decided, to hover over."""
    parts = []
    for stretch in panel.stretches:
        x, width = frame.x(stretch.start), max(frame.x(stretch.end) - frame.x(stretch.start), 0.5)
        parts.append(
            f"<g><title>{escape(stretch.text)}</title>"
            f'<rect class="strip c-{stretch.style}" x="{x}" y="{bottom + 1}" width="{width:.1f}" height="{STRIP - 1}"/>'
            f'<rect class="hover" x="{x}" y="{top}" width="{width:.1f}" height="{bottom - top}"/></g>'
        )
    return parts
