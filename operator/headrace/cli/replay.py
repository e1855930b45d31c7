"""`headrace replay`: the operator's decisions again from its decision log, as they were or with something changed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from headrace.api.roles import Role
from headrace.autoscaler.decision import Decision
from headrace.autoscaler.replay import Change, Difference, Entry, Step, compare, from_line, recorded_targets, replay
from headrace.loops.decision_log import files_of

GAP_TICKS = 3.0  # a longer pause in the log is the operator's, and counts as one tick of the replica-hours
_console = Console()


@dataclass(slots=True)
class RoleTrack:
    """One role's targets over time, recorded beside replayed."""

    recorded: list[int] = field(default_factory=list)
    replayed: list[int] = field(default_factory=list)
    gpus: float = 1.0  # of one replica


@dataclass(slots=True)
class Track:
    """One service over the log."""

    at: list[float] = field(default_factory=list)  # epoch seconds of each replayed tick
    roles: dict[Role, RoleTrack] = field(default_factory=dict)
    tick_s: float = 5.0
    skipped: int = 0  # ticks behind a gap in the log
    first: tuple[float, Difference] | None = None  # where a record differs first, in any field
    first_target: str = ""  # where a target differs first, in words

    def spans_s(self) -> list[float]:
        """How long each target held."""
        gaps = [after - before for before, after in pairwise(self.at)]
        return [gap if gap <= GAP_TICKS * self.tick_s else self.tick_s for gap in [*gaps, self.tick_s]]


@dataclass(slots=True)
class Reader:
    """Lines of one file, or of all files of a log's folder."""

    path: Path
    service: str | None
    unreadable: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Entry]:
        for path in files_of(self.path) if self.path.is_dir() else [self.path]:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip() and (entry := self._entry(line, f"{path}:{number}")):
                        yield entry

    def _entry(self, line: bytes, where: str) -> Entry | None:
        try:
            record = orjson.loads(line)
            if self.service is not None and record["service"] != self.service:
                return None
            return from_line(record)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.unreadable.append(f"{where}: {type(error).__name__}: {error}")
            return None


def _bound(role: str, which: str) -> Any:
    return typer.Option(min=1, help=f"Replay with this replicas.{which} of {role}.")


Seconds = float | None


def command(  # noqa: PLR0917  one parameter an option
    file: Annotated[Path, typer.Argument(help="A file of the decision log, or its folder.", exists=True)],
    service: Annotated[str | None, typer.Option(metavar="NAMESPACE/NAME", help="Only this service.")] = None,
    ttft: Annotated[Seconds, typer.Option(min=0.001, help="Replay with this TTFT objective, in seconds.")] = None,
    tpot: Annotated[Seconds, typer.Option(min=0.0001, help="Replay with this TPOT objective, in seconds.")] = None,
    percentile: Annotated[float | None, typer.Option(min=50, max=99.9, help="... with this percentile.")] = None,
    startup: Annotated[
        Seconds, typer.Option(min=1.0, help="... as if engines needed so many seconds to start.")
    ] = None,
    scale_down_window: Annotated[Seconds, typer.Option(min=0.0, help="... with this scale-down window.")] = None,
    headroom: Annotated[float | None, typer.Option(min=0.1, help="... with this factor on every need.")] = None,
    gpu_budget: Annotated[float | None, typer.Option(min=1.0, help="... with this budget of accelerators.")] = None,
    min_prefill: Annotated[int | None, _bound("prefill", "min")] = None,
    max_prefill: Annotated[int | None, _bound("prefill", "max")] = None,
    min_decode: Annotated[int | None, _bound("decode", "min")] = None,
    max_decode: Annotated[int | None, _bound("decode", "max")] = None,
    min_worker: Annotated[int | None, _bound("worker", "min")] = None,
    max_worker: Annotated[int | None, _bound("worker", "max")] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write every tick to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a plot of the replicas (PNG or SVG).")] = None,
) -> None:
    """Decide again what the operator decided, from the signals that it logged.

    Without a change every decision must come out as recorded (exit status 1 and the first difference otherwise). With
    one, the replicas that it would have asked for are shown beside the recorded ones.

    Example: headrace replay /var/log/headrace --service default/chat --ttft 4 --plot replay.png
    """
    change = Change(
        ttft_s=ttft,
        tpot_s=tpot,
        percentile=percentile,
        headroom=headroom,
        gpu_budget=gpu_budget,
        scale_down_window_s=scale_down_window,
        startup_s=startup,
        least=_given(min_prefill, min_decode, min_worker),
        most=_given(max_prefill, max_decode, max_worker),
    )
    if plot is not None and find_spec("matplotlib") is None:
        raise typer.BadParameter("a plot needs matplotlib: pip install 'headrace[simulate]'", param_hint="--plot")
    reader = Reader(file, service)
    try:
        tracks = follow(replay(reader, change))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for line in reader.unreadable:
        typer.echo(f"not read: {line}", err=True)
    if not any(track.at for track in tracks.values()):
        whose = f" of {service}" if service else ""
        typer.echo(f"{file} holds no decision{whose} that can be replayed", err=True)
        raise typer.Exit(2)
    if absent := {*change.least, *change.most} - {role for track in tracks.values() for role in track.roles}:
        raise typer.BadParameter(f"no service of the log has a pool of role {', '.join(sorted(absent))}")
    exact = change == Change()
    for name, track in tracks.items():
        _tell(name, track, exact=exact)
    if json_path is not None:
        json_path.write_text(json.dumps(as_data(tracks, exact=exact), indent=1), encoding="utf-8")
    if plot is not None:
        draw(tracks, plot)
    if exact and any(track.first for track in tracks.values()):
        raise typer.Exit(1)


def _given(prefill: int | None, decode: int | None, worker: int | None) -> dict[Role, int]:
    found = {Role.PREFILL: prefill, Role.DECODE: decode, Role.WORKER: worker}
    return {role: value for role, value in found.items() if value is not None}


def follow(steps: Iterator[Step]) -> dict[str, Track]:
    """The steps as one track a service, ordered by name."""
    tracks: dict[str, Track] = {}
    for step in steps:
        track = tracks.setdefault(step.entry.signals.service, Track())
        if step.decision is None:
            track.skipped += 1
        else:
            _add(track, step.entry, step.decision, compare(step) if track.first is None else None)
    return dict(sorted(tracks.items()))


def _add(track: Track, entry: Entry, decision: Decision, difference: Difference | None) -> None:
    at, recorded = entry.signals.at, recorded_targets(entry)
    for role, part in decision.roles.items():
        before, after = recorded.get(role, part.target.replicas), part.target.replicas
        line = track.roles.setdefault(role, RoleTrack([0] * len(track.at), [0] * len(track.at)))
        line.recorded.append(before)
        line.replayed.append(after)
        line.gpus = entry.limits.roles[role].gpus
        if before != after and not track.first_target:
            track.first_target = f"at {_time(at)} {role} would have been {after} where it was {before}: {part.message}"
    for role in track.roles.keys() - decision.roles.keys():  # the topology changed within the log
        track.roles[role].recorded.append(0)
        track.roles[role].replayed.append(0)
    if difference is not None:
        track.first = at, difference
    track.at.append(at)
    track.tick_s = entry.limits.tick_s


def summary(track: Track) -> dict[str, dict[str, dict[str, float]]]:
    """Role -> recorded, replayed -> replica-hours, GPU-hours, most replicas, changes."""
    spans_s = track.spans_s()
    return {
        role.value: {
            "recorded": _figures(line.recorded, spans_s, line.gpus),
            "replayed": _figures(line.replayed, spans_s, line.gpus),
        }
        for role, line in track.roles.items()
    }


def _figures(targets: list[int], spans_s: list[float], gpus: float) -> dict[str, float]:
    hours = sum(target * span_s for target, span_s in zip(targets, spans_s, strict=True)) / 3600.0
    return {
        "replica_hours": hours,
        "gpu_hours": hours * gpus,
        "most": max(targets),
        "changes": sum(before != after for before, after in pairwise(targets)),
    }


def _tell(name: str, track: Track, *, exact: bool) -> None:
    if not track.at:
        typer.echo(f"{name}: no tick can be replayed; {track.skipped} lie behind a gap in the log")
        return
    typer.echo(f"{name}: {len(track.at)} ticks from {_time(track.at[0])} to {_time(track.at[-1])}")
    if track.skipped:
        typer.echo(f"  {track.skipped} more lie behind a gap in the log, where the memory is not known")
    if exact:
        found = f"differs first at {_time(track.first[0])} in {track.first[1]}" if track.first else ""
        typer.echo(f"  {found or 'every decision comes out as recorded'}")
        return
    table = Table(box=SIMPLE)
    for column in ("role", "", "replica-hours", "GPU-hours", "most", "changes"):
        table.add_column(column, justify="left" if column in {"role", ""} else "right")
    for role, rows in summary(track).items():
        for which, row in rows.items():
            figures = (f"{row['replica_hours']:.2f}", f"{row['gpu_hours']:.2f}", f"{row['most']}", f"{row['changes']}")
            table.add_row(role, which, *figures)
    _console.print(table)
    typer.echo(f"  differs first {track.first_target}" if track.first_target else "  the same replicas throughout")
    typer.echo("  An estimate: the load is the one that the recorded replicas saw.")


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def as_data(tracks: Mapping[str, Track], *, exact: bool) -> dict[str, Any]:
    """Everything as JSON: summaries, and one row a tick."""
    return {"changed": not exact, "services": {name: _service_data(track) for name, track in tracks.items()}}


def _service_data(track: Track) -> dict[str, Any]:
    difference = None
    if track.first is not None:
        at, found = track.first
        difference = {"at": at, "path": found.path, "recorded": found.recorded, "replayed": found.replayed}
    rows = [
        {"at": at}
        | {role.value: {"recorded": t.recorded[i], "replayed": t.replayed[i]} for role, t in track.roles.items()}
        for i, at in enumerate(track.at)
    ]
    return {
        "ticks": len(track.at),
        "skipped": track.skipped,
        "first_difference": difference,
        "roles": summary(track),
        "rows": rows,
    }


def draw(tracks: Mapping[str, Track], path: Path) -> None:
    """One panel a role: recorded and replayed replicas over time."""
    import matplotlib  # noqa: PLC0415  an extra that only plots need

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = [(name, role, track) for name, track in tracks.items() for role in track.roles]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(9, 2.4 * len(panels)), sharex=True, squeeze=False, layout="constrained"
    )
    for axis, (name, role, track) in zip(axes[:, 0], panels, strict=True):
        times = [datetime.fromtimestamp(at, UTC) for at in track.at]
        axis.step(times, track.roles[role].recorded, where="post", color="#a3a3a3", linewidth=3, label="recorded")
        axis.step(times, track.roles[role].replayed, where="post", color="#c2410c", label="replayed")
        axis.set_ylim(bottom=0)
        axis.yaxis.get_major_locator().set_params(integer=True)
        axis.set_ylabel("replicas")
        axis.set_title(f"{name} {role}", loc="left", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(loc="upper right", frameon=False, fontsize=9)
    figure.autofmt_xdate()
    figure.savefig(path, dpi=120)
    plt.close(figure)
