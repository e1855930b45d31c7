"""`demo-report/index.html`: the run as one self-contained page. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from e2e.demo.panels import Panel, panels
from e2e.demo.record import DecisionRow, RunRecord
from e2e.demo.summary import load_start, summary

_CSS = Path(__file__).with_name("report.css")


def report(record: RunRecord) -> str:
    """The page. Needs nothing from the network; its colours follow the reader's light or dark setting."""
    figures = summary(record)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Headrace demo</title><style>
{_CSS.read_text()}</style></head><body><main>
{_head(record, figures)}
{_tiles(figures)}
<h2>Load and pools over time</h2>
<p class="soft">Minutes:seconds since the load began. Dotted verticals: decisions that changed a target (hover).</p>
{"".join(_figure(panel) for panel in panels(record))}
<h2>Decisions</h2>
{_decisions(record)}
<h2>Requests by phase</h2>
{_phases(figures)}
<h2>How long each step took</h2>
{_pairs([(stage.name, f"{stage.seconds:.0f} s") for stage in record.stages])}
<h2>Versions</h2>
{_pairs(sorted(record.versions.items()))}
</main></body></html>
"""


def _head(record: RunRecord, figures: Mapping[str, Any]) -> str:
    day = datetime.fromtimestamp(load_start(record), UTC).strftime("%Y-%m-%d %H:%M UTC")
    mark = ("good", "Both pools grew and shrank, no request was lost")
    if not figures["passed"]:
        mark = ("bad", "The demo did not show what it is for")
    slo = record.objective
    wish = f"; objective p{slo.percentile}: TTFT {slo.ttft_s:g} s, TPOT {slo.tpot_s * 1000:g} ms" if slo else ""
    why = "".join(f"<li>{escape(text)}</li>" for text in figures["shortcomings"])
    return (
        f"<h1>Headrace demo: {escape(record.service)}</h1>"
        f'<p class="soft">{day}; topology {escape(record.topology)}{wish}</p>'
        f'<span class="verdict {mark[0]}">{mark[1]}</span>' + (f'<ul class="why">{why}</ul>' if why else "")
    )


def _tiles(figures: Mapping[str, Any]) -> str:
    requests, roles = figures["requests"], figures["roles"]
    tiles = [
        (str(requests["sent"]), "requests sent"),
        (str(requests["failed"]), "failed"),
        (str(requests["truncated"]), "truncated"),
        (seconds(requests["ttft_s"]["p50"]), "TTFT p50"),
        (seconds(requests["ttft_s"]["p95"]), "TTFT p95"),
        (seconds(requests["tpot_s"]["p50"]), "TPOT p50"),
        (seconds(requests["itl_s"]["p95"]), "ITL p95"),
        *((f"1 → {role['peak']} → {role['last']}", f"{name} replicas") for name, role in roles.items()),
    ]
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for value, label in tiles)
        + "</div>"
    )


def seconds(value: float | None) -> str:
    """A latency for people: 0.0421 is 42 ms, 1.234 is 1.23 s, None a dash."""
    if value is None:
        return "-"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _figure(panel: Panel) -> str:
    keys = "".join(
        f'<span class="key {key.css}"><i class="{key.shape}"></i><b>{escape(key.label)}</b></span>'
        for key in panel.keys
    )
    caption = f'{escape(panel.title)} <span class="soft">{escape(panel.unit)}</span>{keys}'
    return f"<figure><figcaption>{caption}</figcaption>{panel.svg}</figure>\n"


def _decisions(record: RunRecord) -> str:
    if not record.decisions:
        return '<p class="soft">None changed a target.</p>'
    rows = "".join(_decision(row, load_start(record)) for row in record.decisions)
    head = "".join(f"<th>{name}</th>" for name in ("At", "Role", "Replicas", "Reason", "Binding", "Why"))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _decision(row: DecisionRow, zero_at: float) -> str:
    why = escape(row.message) + "".join(f'<br><span class="soft">{escape(veto)}</span>' for veto in row.vetoes)
    cells = [
        f'<td class="num">{clock(after_s(row.at, zero_at))}</td>',
        f"<td>{escape(row.role)}</td>",
        f'<td class="num">{_count(row.current)} → {_count(row.target)}</td>',
        f"<td>{escape(row.reason)}</td><td>{escape(row.binding)}</td><td>{why}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def after_s(at: str, zero_at: float) -> float | None:
    """Seconds from the start of the load to an RFC 3339 time; None where it is not one."""
    try:
        return datetime.fromisoformat(at).timestamp() - zero_at
    except ValueError:
        return None


def clock(value: float | None) -> str:
    """Seconds as minutes:seconds: 83.2 is 1:23, -5 is -0:05."""
    if value is None:
        return "-"
    whole = abs(round(value))
    return f"{'-' if value < 0 else ''}{whole // 60}:{whole % 60:02d}"


def _phases(figures: Mapping[str, Any]) -> str:
    columns = ("Phase", "Offered", "Sent", "OK", "Failed", "Truncated", "TTFT p50", "TTFT p95", "TPOT p50", "TPOT p95")
    offered = {phase["name"]: f"{phase['rate_rps']:g}/s" for phase in figures["phases"]}
    rows = [
        [
            name,
            offered.get(name, "-"),
            *(str(of[key]) for key in ("sent", "ok", "failed", "truncated")),
            *(seconds(of[latency][q]) for latency in ("ttft_s", "tpot_s") for q in ("p50", "p95")),
        ]
        for name, of in figures["requests"]["phases"].items()
    ]
    return _table(columns, rows)


def _pairs(pairs: Sequence[tuple[str, str]]) -> str:
    return _table((), [list(pair) for pair in pairs])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = f"<thead><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr></thead>" if columns else ""
    body = "".join(f"<tr>{''.join(f'<td class=num>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{head}<tbody>{body}</tbody></table></div>'
