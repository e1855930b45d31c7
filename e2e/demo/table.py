"""The live view: one table on a terminal, one line every few seconds elsewhere."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from e2e.demo.record import ROLES, EngineSignals, RoleCount, Sample
from e2e.demo.report import clock, seconds


@dataclass(frozen=True, slots=True)
class LoadView:
    """The load as it is now; latencies over the last answers."""

    offered_rps: float
    served_rps: float
    in_flight: int
    sent: int
    failed: int
    truncated: int
    ttft_p95_s: float | None
    itl_p95_s: float | None


def _figure(value: float | None, form: str = "{:.0f}") -> str:
    return "-" if value is None else form.format(value)


def _kv(engine: EngineSignals) -> str:
    return "-" if engine.kv_share is None else f"{engine.kv_share:.0%}"


def render(sample: Sample, load: LoadView, elapsed_s: float) -> RenderableType:
    """Both tables and the last reasons."""
    top = Table(title=f"{sample.phase}  {clock(elapsed_s)}", title_justify="left", expand=True, box=None)
    columns = ("offered/s", "served/s", "in flight", "sent", "failed", "truncated", "TTFT p95", "ITL p95")
    for name in columns:
        top.add_column(name, justify="right")
    bad = "bold red" if load.failed or load.truncated else ""
    top.add_row(
        f"{load.offered_rps:.1f}",
        f"{load.served_rps:.1f}",
        str(load.in_flight),
        str(load.sent),
        Text(str(load.failed), style=bad),
        Text(str(load.truncated), style=bad),
        seconds(load.ttft_p95_s),
        seconds(load.itl_p95_s),
    )
    pools = Table(expand=True, box=None)
    for name in ("role", "serving", "starting", "draining", "target", "running", "waiting", "KV use"):
        pools.add_column(name, justify="left" if name == "role" else "right")
    pools.add_column("last reason", ratio=1, no_wrap=True, overflow="ellipsis")
    for role in ROLES:
        count, engine = sample.counts.get(role, RoleCount()), sample.engines.get(role, EngineSignals())
        decision = sample.latest.get(role)
        pools.add_row(
            role,
            *(str(number) for number in (count.serving, count.starting, count.draining)),
            _figure(decision.target if decision else None),
            _figure(engine.running_requests),
            _figure(engine.waiting_requests),
            _kv(engine),
            f"{decision.reason}: {decision.message}" if decision else "no decision yet",
        )
    return Group(top, pools)


def line(sample: Sample, load: LoadView, elapsed_s: float) -> str:
    """The same in one line, for logs."""
    pools = []
    for role in ROLES:
        count, engine = sample.counts.get(role, RoleCount()), sample.engines.get(role, EngineSignals())
        pools.append(
            f"{role} {count.serving}+{count.starting}-{count.draining} wait {_figure(engine.waiting_requests)} "
            f"kv {_kv(engine)}"
        )
    reasons = ", ".join(f"{role} {sample.latest[role].reason}" for role in ROLES if role in sample.latest)
    return (
        f"{clock(elapsed_s):>5} {sample.phase:<5} offered {load.offered_rps:.1f}/s served {load.served_rps:.1f}/s "
        f"open {load.in_flight} failed {load.failed} cut {load.truncated} ttft95 {seconds(load.ttft_p95_s)} "
        f"itl95 {seconds(load.itl_p95_s)} | {' | '.join(pools)} | {reasons or 'no decision yet'}"
    )
