"""`headrace simulate`: run a trace through a simulated fleet, or set the simulator against measured serving runs."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headrace.api.roles import Role
from headrace.catalog.accelerators import UnknownAccelerator
from headrace.cli.simulate_files import NEEDED, UnreadableTrace, draw, read_trace, trace_column, trace_extent
from headrace.cli.simulate_measured import UnusableMeasurement, serving_runs
from headrace.simulator import validate
from headrace.simulator.cell import Cell, headrace, late_last, mean_load, run_cell
from headrace.simulator.load import scale, window
from headrace.simulator.observe import MetricFaults
from headrace.simulator.policy import Policy
from headrace.simulator.profiles import PROFILES, FleetProfile, profile, with_accelerator
from headrace.simulator.request import Arrival
from headrace.simulator.results import RunResult, Slo
from headrace.simulator.static_policy import StaticPolicy

if TYPE_CHECKING:
    from headrace.simulator.results import Progress as Reached

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Simulate a fleet, and check the simulator against measurements.",
    epilog="Example: headrace simulate run --trace traces/azure2024_conv.parquet --minutes 60",
)
_console = Console()


@app.command(
    epilog="""Examples:

headrace simulate run --trace traces/azure2024_conv.parquet --profile llama-8b-h100 --scale 8 --minutes 60

headrace simulate run --trace traces/ --policy static:9,4 --delay 120 --json out.json --plot out.png"""
)
def run(  # noqa: PLR0917 - one parameter an option
    trace: Annotated[Path, typer.Option(help="A Parquet trace, or a directory of them.", exists=True)],
    profile_name: Annotated[str, typer.Option("--profile", help=f"Fleet: {', '.join(PROFILES)}.")] = "llama-8b-h100",
    accelerator: Annotated[str | None, typer.Option(help="Another chip of the catalogue for the same fleet.")] = None,
    topology: Annotated[str, typer.Option(help="disaggregated or aggregated.")] = "disaggregated",
    policy: Annotated[str, typer.Option(help="headrace, or static:P,D (static:N when aggregated).")] = "headrace",
    delay: Annotated[float, typer.Option(help="Start-up time of a replica, median, in seconds.", min=0.0)] = 60.0,
    delay_cv: Annotated[float, typer.Option(help="Its coefficient of variation (lognormal); 0: fixed.", min=0.0)] = 0.0,
    start_failure: Annotated[float, typer.Option(help="Share of starts that fail and are tried again.", max=0.9)] = 0.0,
    lag: Annotated[float, typer.Option(help="Age of metrics when the policy sees them, in seconds.", min=0.0)] = 0.0,
    loss: Annotated[float, typer.Option(help="Share of scrapes that fail.", min=0.0, max=1.0)] = 0.0,
    slo_ttft: Annotated[float, typer.Option(help="TTFT objective in seconds.", min=0.001)] = 2.0,
    slo_ttft_per_1k: Annotated[float, typer.Option(help="TTFT objective per 1,000 prompt tokens, if larger.")] = 0.0,
    slo_tpot: Annotated[float, typer.Option(help="Objective for the time per output token in seconds.")] = 0.05,
    percentile: Annotated[float, typer.Option(help="Share of requests that shall meet both, in per cent.")] = 95.0,
    queue_order: Annotated[
        Literal["LateLast", "Arrival"], typer.Option(help="In which order engines take requests that wait.")
    ] = "LateLast",
    headroom: Annotated[float, typer.Option(help="Factor on Headrace's needs.", min=0.1)] = 1.0,
    load: Annotated[float, typer.Option("--scale", help="Load factor: jittered copies, or thinning below 1.")] = 1.0,
    start: Annotated[float, typer.Option(help="Skip so many minutes of the trace.", min=0.0)] = 0.0,
    minutes: Annotated[float | None, typer.Option(help="Simulate only so many minutes.", min=0.1)] = None,
    minimum: Annotated[int, typer.Option("--min", help="Least replicas a role.", min=1)] = 1,
    maximum: Annotated[int, typer.Option("--max", help="Most replicas a role.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG, SVG); with several traces one each.")] = None,
) -> None:
    """Run traces through a fleet that a policy sizes."""
    slo = Slo(slo_ttft, slo_tpot, slo_ttft_per_1k / 1000.0)
    cell = Cell(
        _fleet(profile_name, accelerator, topology), topology, delay, delay_cv, start_failure=start_failure,
        faults=MetricFaults(lag, loss), minimum=minimum, maximum=maximum, seed=seed,
        queue=late_last(slo) if queue_order == "LateLast" else None,
    )  # fmt: skip
    asked = _Asked(cell, policy, slo, percentile, headroom, load, start * 60.0, minutes * 60.0 if minutes else None)
    summaries = [_run_trace(path, asked, picture) for path, picture in _files(trace, plot)]
    _show(summaries)
    if json_path is not None:
        json_path.write_text(json.dumps({"rows": summaries}, indent=1), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The options that hold for every trace."""

    cell: Cell
    policy: str  # headrace or static:...
    slo: Slo
    percentile: float
    headroom: float
    load: float  # factor
    start_s: float  # on the trace's clock; what is before is left out
    most_s: float | None  # of the trace, simulated; None: all of it


def _fleet(name: str, accelerator: str | None, topology: str) -> FleetProfile:
    try:
        fleet = profile(name)
        fleet = with_accelerator(fleet, accelerator) if accelerator else fleet
        fleet.roles(topology)
    except (LookupError, ValueError, UnknownAccelerator) as error:
        raise typer.BadParameter(str(error)) from error
    return fleet


def _files(trace: Path, plot: Path | None) -> list[tuple[Path, Path | None]]:
    """Each trace with the place of its picture, if one is wanted."""
    files = sorted(trace.glob("*.parquet")) if trace.is_dir() else [trace]
    if not files:
        raise typer.BadParameter(f"--trace {trace}: no .parquet file in it")
    if plot is None or len(files) == 1:
        return [(path, plot) for path in files]
    return [(path, plot.with_name(f"{plot.stem}-{path.stem}{plot.suffix}")) for path in files]


def _run_trace(path: Path, asked: _Asked, picture: Path | None) -> dict[str, Any]:
    """The row of one trace in the results."""
    try:
        origin_s, span_s = trace_extent(path)
        for name in NEEDED:
            trace_column(path, name)
    except UnreadableTrace as error:
        raise typer.BadParameter(str(error)) from error
    asked = replace(asked, start_s=origin_s + asked.start_s)
    left_s = max(origin_s + span_s - asked.start_s, 1.0)
    horizon_s = min(left_s, asked.most_s) if asked.most_s else left_s
    cell, slo = asked.cell, asked.slo
    policy, initial = _policy(path, asked, horizon_s)
    result, wall_s = _simulate(path, asked, policy, initial, horizon_s)
    if picture is not None:
        draw(result, slo, path.stem, picture)
    return {"trace": path.stem, "profile": cell.profile.name, "topology": cell.topology, "delay_s": cell.delay_s,
            "scale": asked.load, "seed": cell.seed, "initial": {role.value: n for role, n in initial.items()},
            "wall_s": wall_s, "requests_per_minute": result.arrived / wall_s * 60.0, **result.summary(slo),
            "series": result.series}  # fmt: skip


def _load(path: Path, asked: _Asked, horizon_s: float) -> Iterator[Arrival]:
    part = window(read_trace(path), asked.start_s, horizon_s)
    return scale(part, asked.load, np.random.default_rng((asked.cell.seed, 2)))


def _policy(path: Path, asked: _Asked, horizon_s: float) -> tuple[Policy, dict[Role, int]]:
    """The policy, and the replicas that it begins with."""
    cell, name = asked.cell, asked.policy
    roles = cell.profile.roles(cell.topology)
    if name == "headrace":
        initial = mean_load(cell.profile, cell.topology, _load(path, asked, horizon_s), horizon_s)
        return headrace(cell, asked.slo, asked.percentile, headroom=asked.headroom), initial
    counts = name.removeprefix("static:").split(",")
    if not name.startswith("static:") or len(counts) != len(roles) or not all(count.isdigit() for count in counts):
        wanted = ",".join(role.value.upper() for role in roles)
        raise typer.BadParameter(f"--policy {name}: use headrace or static:{wanted} with whole numbers")
    replicas = {role: int(count) for role, count in zip(roles, counts, strict=True)}
    return StaticPolicy(replicas), replicas


def _simulate(
    path: Path, asked: _Asked, policy: Policy, initial: dict[Role, int], horizon_s: float
) -> tuple[RunResult, float]:
    clock = time.perf_counter
    began = clock()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(path.stem, total=horizon_s)
        reached: Reached = lambda t: bar.update(task, completed=t)  # noqa: E731 - typed as the simulator's callback
        load = _load(path, asked, horizon_s)
        result = run_cell(asked.cell, policy, load, horizon_s, initial, clock=clock, progress=reached)
    return result, clock() - began


def _show(summaries: list[dict[str, Any]]) -> None:
    table = Table(title="Simulated", box=SIMPLE)
    columns = ("trace", "policy", "GPU-h", "attained", "TTFT p50/p95 s", "TPOT p50/p95 ms", "rev/h", "dropped")
    for column in columns:
        table.add_column(column, justify="left" if column in {"trace", "policy"} else "right")
    for row in summaries:
        table.add_row(
            row["trace"], row["policy"], f"{row['gpu_hours']:.2f}", f"{100 * row['attainment']:.2f} %",
            _pair(row, "ttft", 1.0, 2), _pair(row, "tpot", 1000.0, 1), f"{row['reversals_per_hour']:.1f}",
            str(row["dropped"]),
        )  # fmt: skip
    _console.print(table)
    for row in summaries:
        _console.print(
            f"{row['trace']}: {row['requests']:,} requests in {row['wall_s']:.1f} s, "
            f"{row['requests_per_minute']:,.0f} a minute; the policy took {row['plan_s']:.2f} s of it, "
            f"{1000 * row['plan_s'] / max(row['ticks'], 1):.2f} ms a tick"
        )


def _pair(row: dict[str, Any], name: str, unit: float, digits: int) -> str:
    values = (row[f"{name}_p50_s"], row[f"{name}_p95_s"])
    return " / ".join("-" if value is None else f"{value * unit:.{digits}f}" for value in values)


@app.command(
    "validate",
    epilog="""Examples:

headrace simulate validate --measured perf/h100 --calibrate perf/h100/profile_llama8b_h100.json --json out.json

headrace simulate validate --measured perf/h100 --accelerator nvidia-h100""",
)
def validate_command(
    measured: Annotated[Path, typer.Option(help="Directory with serve_*.json.gz.", exists=True, file_okay=False)],
    calibrate_path: Annotated[
        Path | None, typer.Option("--calibrate", help="A profile to fit on.", exists=True, dir_okay=False)
    ] = None,
    accelerator: Annotated[str | None, typer.Option(help="Predict from this catalogue chip alone.")] = None,
    profile_name: Annotated[
        str | None, typer.Option("--profile", help="The model served; default: the one the files name.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write rows and medians as JSON.")] = None,
) -> None:
    """Replay measured serving runs and report the simulator's errors. Nothing is ever fitted on the serving runs."""
    if (calibrate_path is None) == (accelerator is None):
        raise typer.BadParameter("give exactly one of --calibrate and --accelerator")
    try:
        runs, notes = serving_runs(measured, profile_name, accelerator, calibrate_path)
    except (LookupError, UnusableMeasurement) as error:
        raise typer.BadParameter(str(error.args[0])) from error
    rows: list[dict[str, Any]] = []
    for run in runs:
        rows += validate.compare(run.name, run.content, run.times, run.fleet.shape, np.random.default_rng(0))
    report = validate.report(rows)
    report["from"] = str(calibrate_path) if calibrate_path else f"catalogue: {accelerator}"
    report["notes"] = notes
    _show_errors(report)
    if json_path is not None:
        json_path.write_text(json.dumps(report, indent=1), encoding="utf-8")


def _show_errors(report: dict[str, Any]) -> None:
    table = Table(title=f"Simulated against measured ({report['from']})", box=SIMPLE)
    table.add_column("run", min_width=17)
    for column, width in (("rps", 5), ("load", 5), ("TTFT p50 ms", 13), ("error", 7), ("TPOT ms", 9), ("error", 7)):
        table.add_column(column, justify="right", no_wrap=True, min_width=width)
    for row in report["rows"]:
        cells = [
            row["run"].removeprefix("serve_"),
            f"{row['rate_rps']:.2f}",
            f"{row['utilisation']:.2f}{'*' if row['saturated'] else ''}",
        ]
        for figure in ("ttft_p50_s", "tpot_p50_s"):
            cells.append(f"{1000 * row[f'measured_{figure}']:.1f}/{1000 * row[f'simulated_{figure}']:.1f}")
            cells.append(f"{100 * row[f'error_{figure}']:+.1f} %")
        table.add_row(*cells)
    _console.print(table)
    for note in report["notes"]:
        Console(stderr=True).print(note, soft_wrap=True, markup=False, highlight=False)
    median = report["median_error"]
    _console.print(
        f"Pairs are measured / simulated; load is the share of capacity, * means saturated.\n"
        f"Median error over {report['rows_below_saturation']} rates below saturation: "
        f"TPOT p50 {100 * median['tpot_p50']:.1f} %, TTFT p50 {100 * median['ttft_p50']:.1f} %, "
        f"TTFT p90 {100 * median['ttft_p90']:.1f} %.\n"
        + "Largest error of the attainment: "
        + ", ".join(f"{100 * worst:.1f} points at {name}" for name, worst in report["worst_attainment_error"].items())
    )
