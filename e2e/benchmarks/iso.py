"""GPU-hours at equal attainment: interpolation on the points that a policy's knob gives."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """One run, or the mean of its seeds."""

    gpu_hours: float
    attainment: float  # 0..1
    knob: float = 0.0


def frontier(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in both, from the cheapest to the best."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.gpu_hours, -p.attainment)):
        if not best or point.attainment > best[-1].attainment:
            best.append(point)
    return best


def gpu_hours_at(points: Iterable[Point], target: float) -> float | None:
    """GPU-hours at which the policy attains `target`, between the two points of the frontier around it.

    10 h at 93 % and 12 h at 97 %: 11 h at 95 %. Nothing is extrapolated: the cheapest point where all attain more, None
    where none does.
    """
    line = frontier(points)
    if not line or line[-1].attainment < target:
        return None
    above = next(i for i, point in enumerate(line) if point.attainment >= target)
    if above == 0:
        return line[0].gpu_hours
    low, high = line[above - 1], line[above]
    share = (target - low.attainment) / (high.attainment - low.attainment)
    return low.gpu_hours + share * (high.gpu_hours - low.gpu_hours)


def attainment_at(points: Iterable[Point], gpu_hours: float) -> float | None:
    """Attainment at so many GPU-hours; None where every point costs more."""
    line = frontier(points)
    if not line or line[0].gpu_hours > gpu_hours:
        return None
    below = max(i for i, point in enumerate(line) if point.gpu_hours <= gpu_hours)
    if below == len(line) - 1:
        return line[-1].attainment
    low, high = line[below], line[below + 1]
    share = (gpu_hours - low.gpu_hours) / (high.gpu_hours - low.gpu_hours)
    return low.attainment + share * (high.attainment - low.attainment)
