"""The sentences and the table of `headrace replay`."""

from collections.abc import Mapping

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from headrace.autoscaler.rebuild import UNKNOWN
from headrace.cli.replay.track import Result, Track, summary, time_text

_console = Console()


def tell(result: Result) -> None:
    """Print what was found, service by service."""
    for name, track in result.tracks.items():
        if not track.at:
            typer.echo(f"{name}: no tick can be replayed; {track.skipped} lie behind a gap in the log")
            continue
        typer.echo(f"{name}: {len(track.at)} ticks from {time_text(track.at[0])} to {time_text(track.at[-1])}")
        if track.skipped:
            typer.echo(f"  {track.skipped} more lie behind a gap in the log, where the memory is not known")
        if result.exact:
            found = f"differs first at {time_text(track.first[0])} in {track.first[1]}" if track.first else ""
            typer.echo(f"  {found or 'every decision comes out as recorded'}")
            continue
        if result.agreement is not None:
            _tell_agreement(result.agreement[name], changed=result.changed)
        _table(track)
        typer.echo(f"  differs first {track.first_target}" if track.first_target else "  the same replicas throughout")
        if result.changed:
            typer.echo("  An estimate: the load is the one that the recorded replicas saw.")


def _tell_agreement(agreement: Mapping[str, Mapping[str, float]], *, changed: bool) -> None:
    typer.echo("  APPROXIMATE: the signals are rebuilt from what Prometheus scraped. Not known:")
    for line in UNKNOWN:
        typer.echo(f"    - {line}")
    typer.echo(
        "  Without the change it decides as the operator did:" if changed else "  It decides as the operator did:"
    )
    for role, shares in agreement.items():
        same, near = shares["same"], shares["within_one"]
        typer.echo(f"    {role}: the same target in {same:.1%} of the ticks, within one replica in {near:.1%}")


def _table(track: Track) -> None:
    table = Table(box=SIMPLE)
    for column in ("role", "", "replica-hours", "GPU-hours", "most", "changes"):
        table.add_column(column, justify="left" if column in {"role", ""} else "right")
    for role, rows in summary(track).items():
        for which, row in rows.items():
            figures = (f"{row['replica_hours']:.2f}", f"{row['gpu_hours']:.2f}", f"{row['most']}", f"{row['changes']}")
            table.add_row(role, which, *figures)
    _console.print(table)
