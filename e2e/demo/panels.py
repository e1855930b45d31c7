"""Which charts the report shows, and the points in them. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from e2e.demo.bins import quantile_over_time, rates, served_at, tpots, ttfts
from e2e.demo.charts import Area, Band, Chart, Series, render
from e2e.demo.record import ROLES, EngineSignals, RoleCount, RunRecord
from e2e.demo.summary import load_end, load_start

# Requests come a few a second: 10 s hold enough of them for a p95, and ten minutes still show sixty points.
BIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend; `shape` is a CSS class: "" a line, "dash", "block"."""

    label: str
    css: str
    shape: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart with its caption."""

    title: str
    unit: str
    keys: Sequence[Key]
    svg: str


def panels(record: RunRecord) -> list[Panel]:
    """All charts of a run, on one time axis."""
    return [
        _load(record),
        *(_replicas(record, role) for role in ROLES),
        _engines(record, "Waiting in the engines", "requests", lambda engine: engine.waiting_requests),
        _engines(record, "KV cache in use", "% of tokens, mean over engines", _kv_per_cent),
        _latency(record, "TTFT", "seconds, by the time of the first token", ttfts(record.results), _ttft_limit(record)),
        _latency(record, "TPOT", "milliseconds a token", _in_ms(tpots(record.results)), _tpot_limit(record)),
    ]


def _chart(record: RunRecord, title: str, unit: str, **parts: object) -> Chart:
    zero, end = load_start(record), load_end(record)
    bands = [Band(phase.name, phase.started_at - zero, phase.ended_at - zero) for phase in record.phases]
    return Chart(title, unit, end - zero, bands=bands, **parts)  # type: ignore[arg-type]


def _line_panel(
    record: RunRecord, title: str, unit: str, series: Sequence[Series], limit: tuple[float, str] | None = None
) -> Panel:
    keys = [Key(line.label, line.css, "dash" if line.dashed else "") for line in series]
    return Panel(title, unit, keys, render(_chart(record, title, unit, series=series, limit=limit)))


def _load(record: RunRecord) -> Panel:
    zero, end = load_start(record), load_end(record)
    offered = Series("offered", "c-offered", rates(record.sent_at, zero, end, BIN_S))
    served = Series("served", "c-served", rates(served_at(record.results), zero, end, BIN_S))
    return _line_panel(record, "Load", f"requests a second, {BIN_S:g} s bins", [offered, served])


def _replicas(record: RunRecord, role: str) -> Panel:
    zero, end = load_start(record), load_end(record)
    samples = [(max(0.0, sample.at - zero), sample.counts.get(role, RoleCount())) for sample in record.samples]
    if samples:
        samples.append((end - zero, samples[-1][1]))
    levels: list[tuple[str, Callable[[RoleCount], float], Callable[[RoleCount], float]]] = [
        ("serving", lambda _: 0, lambda c: c.serving),
        ("starting", lambda c: c.serving, lambda c: c.serving + c.starting),
        ("draining", lambda c: c.serving + c.starting, lambda c: c.total),
    ]
    areas = [
        Area(name, f"c-{role} a-{name}", [(x, lower(count), upper(count)) for x, count in samples])
        for name, lower, upper in levels
    ]
    title = f"{role.capitalize()} replicas"
    chart = _chart(record, title, "pods", areas=areas, marks=_marks(record, role), whole=True)
    keys = [Key(area.label, area.css, "block") for area in areas]
    return Panel(title, "pods", keys, render(chart))


def _marks(record: RunRecord, role: str) -> list[tuple[float, str]]:
    zero = load_start(record)
    return [
        (datetime.fromisoformat(row.at).timestamp() - zero, f"{row.current} → {row.target} {row.reason}: {row.message}")
        for row in record.decisions
        if row.role == role and row.at
    ]


def _engines(record: RunRecord, title: str, unit: str, value: Callable[[EngineSignals], float | None]) -> Panel:
    zero = load_start(record)
    series = [
        Series(
            role,
            f"c-{role}",
            [
                (sample.at - zero, value(sample.engines.get(role, EngineSignals())))
                for sample in record.samples
                if sample.at >= zero
            ],
            step=True,
        )
        for role in ROLES
    ]
    return _line_panel(record, title, unit, series)


def _latency(
    record: RunRecord, title: str, unit: str, values: list[tuple[float, float]], limit: tuple[float, str] | None
) -> Panel:
    zero, end = load_start(record), load_end(record)
    series = [
        Series("p50", "c-quiet", quantile_over_time(values, 0.5, zero, end, BIN_S)),
        Series("p95", "c-quiet", quantile_over_time(values, 0.95, zero, end, BIN_S), dashed=True),
    ]
    return _line_panel(record, title, unit, series, limit)


def _kv_per_cent(engine: EngineSignals) -> float | None:
    return None if engine.kv_share is None else engine.kv_share * 100


def _in_ms(values: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(at, value * 1000) for at, value in values]


def _ttft_limit(record: RunRecord) -> tuple[float, str] | None:
    return None if record.objective is None else (record.objective.ttft_s, f"objective {record.objective.ttft_s:g} s")


def _tpot_limit(record: RunRecord) -> tuple[float, str] | None:
    if record.objective is None:
        return None
    return record.objective.tpot_s * 1000, f"objective {record.objective.tpot_s * 1000:g} ms"
