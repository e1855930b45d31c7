"""What a run leaves behind: compact arrays of the finished requests, a row a tick, and figures computed from them."""

from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.simulator.request import Live

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Slo:
    """An objective on both latencies. `ttft_per_token_s` makes the TTFT limit grow with the prompt."""

    ttft_s: float = 2.0
    tpot_s: float = 0.05
    ttft_per_token_s: float = 0.0  # the limit is the larger of ttft_s and this times the prompt tokens

    def name(self) -> str:
        """Short name for tables, such as ttft2.0-tpot0.05."""
        per = f"-per{self.ttft_per_token_s * 1000:g}ms" if self.ttft_per_token_s else ""
        return f"ttft{self.ttft_s:g}{per}-tpot{self.tpot_s:g}"


@dataclass(slots=True)
class Records:
    """One entry a finished request: 24 bytes, so that a million requests take 24 MB."""

    arrived: "array[float]" = field(default_factory=lambda: array("d"))
    isl: "array[int]" = field(default_factory=lambda: array("l"))
    ttft: "array[float]" = field(default_factory=lambda: array("f"))
    tpot: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, live: Live, finished_at: float) -> None:
        """Note a finished request. TPOT is the mean time of its output tokens after the first; one token has 0."""
        self.arrived.append(live.arrived)
        self.isl.append(live.isl)
        self.ttft.append(live.first - live.arrived)
        self.tpot.append((finished_at - live.first) / (live.osl - 1) if live.osl > 1 else 0.0)

    def met(self, slo: Slo) -> npt.NDArray[np.bool_]:
        """Per request, whether it met both objectives."""
        limit = np.maximum(slo.ttft_s, slo.ttft_per_token_s * np.asarray(self.isl))
        return (np.asarray(self.ttft) <= limit) & (np.asarray(self.tpot) <= slo.tpot_s)


@dataclass(slots=True)
class RunResult:
    """One simulated run. Times in seconds; `series` has one list a column and one row a policy tick."""

    policy: str
    horizon_s: float
    arrived: int
    unfinished: int  # still in the fleet when the run was cut off
    rejected: int  # never fit an engine
    retractions: int
    gpu_s: Mapping[str, float]  # by role
    actions: int
    reversals: int
    failed_starts: int
    ticks: int
    plan_s: float
    records: Records
    series: dict[str, list[float]]
    gave_up: bool = False  # stopped early by a spent miss budget: the figures cover a part of the load

    @property
    def gpu_hours(self) -> float:
        """GPU-hours held up to the horizon, starting and draining replicas included."""
        return sum(self.gpu_s.values()) / 3600.0

    def attainment(self, slo: Slo) -> float:
        """Share of all arrived requests that met both objectives; what was dropped or unfinished is a miss."""
        return float(self.records.met(slo).sum()) / self.arrived if self.arrived else 1.0

    def summary(self, slo: Slo) -> dict[str, Any]:
        """The figures of the run as a flat, JSON-able mapping."""
        records = self.records
        ttft, tpot = np.asarray(records.ttft), np.asarray(records.tpot)
        hours = max(self.horizon_s / 3600.0, 1e-9)
        return {
            "policy": self.policy,
            "objective": slo.name(),
            "requests": self.arrived,
            "gpu_hours": self.gpu_hours,
            "gpu_hours_by_role": {role: seconds / 3600.0 for role, seconds in self.gpu_s.items()},
            "attainment": self.attainment(slo),
            "ttft_attainment": _share(ttft <= np.maximum(slo.ttft_s, slo.ttft_per_token_s * np.asarray(records.isl)),
                                      self.arrived),
            "tpot_attainment": _share(tpot <= slo.tpot_s, self.arrived),
            **_quantiles("ttft", ttft),
            **_quantiles("tpot", tpot),
            "actions": self.actions,
            "reversals": self.reversals,
            "reversals_per_hour": self.reversals / hours,
            "dropped": self.unfinished + self.rejected,
            "retractions": self.retractions,
            "failed_starts": self.failed_starts,
            "ticks": self.ticks,
            "plan_s": self.plan_s,
            "horizon_s": self.horizon_s,
        }  # fmt: skip


def _share(met: npt.NDArray[np.bool_], arrived: int) -> float:
    return float(met.sum()) / arrived if arrived else 1.0


def _quantiles(name: str, values: npt.NDArray[Any]) -> dict[str, float | None]:
    if not len(values):
        return {f"{name}_p{q}_s": None for q in (50, 90, 95, 99)}
    return {f"{name}_p{q}_s": float(np.percentile(values, q)) for q in (50, 90, 95, 99)}


@dataclass(slots=True)
class Series:
    """A row a tick for plots."""

    columns: dict[str, list[float]] = field(default_factory=dict)

    def row(self, values: Mapping[str, float]) -> None:
        """Append one row; every row of a run has the same columns."""
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)


@dataclass(slots=True)
class MissBudget:
    """Stops a run whose outcome is settled: more than `allowed` requests missed the objective."""

    slo: Slo
    allowed: int
    missed: int = 0

    def spend(self, live: Live, finished_at: float) -> None:
        """Count a finished request if it missed."""
        slo = self.slo
        late = live.first - live.arrived > max(slo.ttft_s, slo.ttft_per_token_s * live.isl)
        if late or finished_at - live.first > slo.tpot_s * (live.osl - 1):
            self.missed += 1

    @property
    def spent(self) -> bool:
        """Whether more missed than may."""
        return self.missed > self.allowed


Progress = Callable[[float], None]  # called now and then with the simulated time reached
