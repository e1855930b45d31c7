"""What the picture of a replay shows: per service its arrivals, and per role the replicas beside the needs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from headrace.api.roles import Role
from headrace.cli.replay.track import GAP_TICKS, Result, RoleTrack, Track, time_text

MOST_POINTS = 1200  # of a line: more than the picture has columns
NEEDS_SHOWN = 1.5  # times the most replicas; a backlog can ask for hundreds, and would flatten all the rest

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One line in data units; `parts` between gaps of the recording. `style`: a key of the renderers' colours."""

    label: str
    style: str
    parts: Sequence[Sequence[Point]]
    step: bool = False


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which nothing changed: the binding constraint, and a text to hover over."""

    start: float
    end: float
    style: str
    text: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart; all share the axis of time."""

    title: str
    unit: str
    lines: Sequence[Line]
    top: float  # of the axis, at least
    stretches: Sequence[Stretch] = ()
    whole: bool = False  # only whole numbers on the axis


def panels(result: Result) -> list[Panel]:
    """All charts, service by service."""
    several = len(result.tracks) > 1
    found = []
    for name, track in result.tracks.items():
        if track.at:
            prefix = f"{name} " if several else ""
            found.append(_arrivals(track, prefix))
            found += [_role(track, role, line, prefix) for role, line in track.roles.items()]
    return found


def _arrivals(track: Track, prefix: str) -> Panel:
    line = Line("arrivals", "arrivals", _parts(track, track.arrivals))
    return Panel(f"{prefix}Arrivals", "requests a second, mean of the last minute", [line], max(track.arrivals))


def _role(track: Track, role: Role, line: RoleTrack, prefix: str) -> Panel:
    most = max(*line.recorded, *line.replayed, 1)
    ceiling = NEEDS_SHOWN * most
    names = list(dict.fromkeys(name for row in line.needs for name in row))
    needs = [
        Line(name, name, _parts(track, [min(row.get(name, 0.0), ceiling) for row in line.needs])) for name in names
    ]
    steps = [
        Line(which, which, _parts(track, [float(value) for value in values], keep_all=True), step=True)
        for which, values in (("recorded", line.recorded), ("replayed", line.replayed))
    ]
    top = max([float(most), *(y for need in needs for part in need.parts for _, y in part)])
    title = f"{prefix}{role.value.capitalize()} replicas"
    return Panel(
        title, "targets, and what each constraint asks for", [*needs, *steps], top, _stretches(track, line), whole=True
    )


def _parts(track: Track, values: Sequence[float], *, keep_all: bool = False) -> list[list[Point]]:
    """The points between the gaps, thinned to the largest of each column; `keep_all`: only changes are kept."""
    points = list(zip(track.at, values, strict=True))
    width = max(track.at[-1] - track.at[0], 1.0) / MOST_POINTS
    return [_changes(part) if keep_all else _thin(part, width) for part in _split(points, GAP_TICKS * track.tick_s)]


def _split(points: Sequence[Point], gap_s: float) -> Iterator[list[Point]]:
    part: list[Point] = []
    for point in points:
        if part and point[0] - part[-1][0] > gap_s:
            yield part
            part = []
        part.append(point)
    if part:
        yield part


def _thin(points: Sequence[Point], width_s: float) -> list[Point]:
    columns = groupby(points, key=lambda point: int(point[0] / width_s))
    return [max(column, key=lambda point: point[1]) for _, column in columns]


def _changes(points: Sequence[Point]) -> list[Point]:
    ends = {0, len(points) - 1}
    return [point for i, point in enumerate(points) if i in ends or point[1] != points[i - 1][1]]


def _stretches(track: Track, line: RoleTrack) -> list[Stretch]:
    """Neighbouring ticks with the same targets and the same binding constraint become one."""
    found: list[Stretch] = []
    key: tuple[object, ...] = ()
    for i, (at, span_s) in enumerate(zip(track.at, track.spans_s(), strict=True)):
        now = (line.recorded[i], line.replayed[i], line.binding[i])
        if found and now == key and at - found[-1].end < 1.0:
            found[-1] = Stretch(found[-1].start, at + span_s, found[-1].style, found[-1].text)
        else:
            found.append(Stretch(at, at + span_s, line.binding[i], _text(at, line, i)))
        key = now
    return found


def _text(at: float, line: RoleTrack, i: int) -> str:
    needs: Mapping[str, float] = line.needs[i]
    asked = ", ".join(f"{name} {value:.2f}" for name, value in needs.items())
    return f"{time_text(at)}: recorded {line.recorded[i]}, replayed {line.replayed[i]}. {line.message[i]} ({asked})"
