"""Trace directories in the format of `t, input_tokens, output_tokens[, hash_ids]`, and the windows that are judged."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from headrace.cli.simulate_files import UnreadableTrace, read_trace, trace_column, trace_extent
from headrace.simulator.load import window
from headrace.simulator.request import Arrival

JUDGED_AT = (1 / 3, 2 / 3)  # where in a long trace the judged windows begin, as shares of what is left of it
TUNED_AT = 0.85  # where the window begins that grids are tuned on
DEFAULT_TRACES = Path("../shared/traces")  # beside the repository; where it is missing the benchmarks skip
LEAST_REQUESTS = 200  # one request is half a per cent of attainment: a smaller window says nothing


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a trace file, in seconds of the trace."""

    path: str
    start_s: float
    length_s: float
    origin_s: float = 0.0  # where the trace's clock begins: 0, or an epoch

    @property
    def trace(self) -> str:
        """The trace's name, with the window's first minute where it is a part of the trace."""
        since_s = self.start_s - self.origin_s
        return f"{Path(self.path).stem}@{since_s / 60.0:.0f}m" if since_s else Path(self.path).stem

    def overlaps(self, other: "Window") -> bool:
        """Whether both show some of the same requests."""
        return (
            self.path == other.path
            and self.start_s < other.start_s + other.length_s
            and other.start_s < self.start_s + self.length_s
        )


def files(directory: Path) -> list[Path]:
    """The Parquet traces of a directory (or of its `open` folder), by name."""
    return sorted(directory.glob("*.parquet")) or sorted((directory / "open").glob("*.parquet"))


def judged(path: Path, length_s: float, windows: int) -> list[Window]:
    """Up to `windows` windows of a trace, without overlap; a trace that is no longer than one window is one.

    Raises UnreadableTrace with the reason.
    """
    origin_s, span_s = _extent(path, length_s)
    spare_s = span_s - length_s
    if spare_s <= 0.0:
        return [Window(str(path), origin_s, span_s, origin_s)]
    found: list[Window] = []
    for share in JUDGED_AT[:windows]:
        candidate = Window(str(path), origin_s + float(round(share * spare_s)), length_s, origin_s)
        if not any(candidate.overlaps(other) for other in found):
            found.append(candidate)
    return found


def readable(paths: Iterable[Path], length_s: float, windows: int, most: int) -> tuple[list[Window], list[str]]:
    """The windows of the first `most` traces that can be judged, and for each other file met why it cannot."""
    found: list[Window] = []
    problems: list[str] = []
    used = 0
    for path in paths:
        if used == most:
            break
        try:
            parts = judged(path, length_s, windows)
            for part in parts:
                rows(part)
        except UnreadableTrace as error:
            problems.append(str(error))
            continue
        used += 1
        found += parts
    return found, problems


def tuned(path: Path, length_s: float, judged_windows: list[Window]) -> Window | None:
    """The window of a trace that grids are tuned on; None when it would show a judged one."""
    origin_s, span_s = _extent(path, length_s)
    spare_s = span_s - length_s
    candidate = Window(str(path), origin_s + float(round(TUNED_AT * spare_s)), length_s, origin_s)
    if spare_s <= 0.0 or any(candidate.overlaps(other) for other in judged_windows):
        return None
    return candidate


_extent = lru_cache(maxsize=256)(trace_extent)


@lru_cache(maxsize=8)
def rows(part: Window) -> tuple[Arrival, ...]:
    """The unscaled requests of a window. Raises UnreadableTrace when there are too few to say anything."""
    path = Path(part.path)
    for name in ("input_tokens", "output_tokens"):
        trace_column(path, name)
    within = window(read_trace(path), part.start_s, part.length_s)
    found = tuple(Arrival(a.t, int(a.input_tokens), int(a.output_tokens), a.hash_ids) for a in within)
    if len(found) < LEAST_REQUESTS:
        raise UnreadableTrace(f"{path}: {len(found)} requests, {LEAST_REQUESTS} are the least worth judging")
    return found
