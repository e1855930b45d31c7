"""`headrace replay`: the operator's decisions again, as they were or with something changed."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headrace.autoscaler.replay import Change, Entry, beside, replay
from headrace.cli.replay.change import OPTION, change_of
from headrace.cli.replay.inputs import Reader, Shown, from_prometheus
from headrace.cli.replay.plot import check_plot, draw
from headrace.cli.replay.tell import tell
from headrace.cli.replay.track import Result, Track, as_data, follow
from headrace.clock import SystemClock

PROMETHEUS_S = 3600.0  # asked for where no start is given: an incident is looked into within the hour


class Source(StrEnum):
    """Where the signals come from."""

    FILE = "file"
    PROMETHEUS = "prometheus"


_Option = typer.Option
_TIME = "ISO 8601, epoch seconds, -30m or now."


def command(  # noqa: PLR0917  one parameter an option
    file: Annotated[Path | None, typer.Argument(help="A file of the decision log, or its folder.", exists=True)] = None,
    source: Annotated[Source, _Option("--from", help="What to read: a decision log, or a Prometheus.")] = Source.FILE,
    url: Annotated[str | None, _Option(envvar="HEADRACE_PROMETHEUS_URL", help="Of the Prometheus.")] = None,
    service: Annotated[str | None, _Option(metavar="NAMESPACE/NAME", help="Only this service.")] = None,
    start: Annotated[str | None, _Option(help=f"Show decisions from then on: {_TIME} From Prometheus: -1h.")] = None,
    end: Annotated[str | None, _Option(help=f"Show decisions until then: {_TIME}")] = None,
    step: Annotated[str, _Option(help="From Prometheus: the time between two decisions.")] = "5s",
    settings: Annotated[
        list[str] | None, _Option(OPTION, metavar="NAME=VALUE", help="Replay with a change; as often as needed.")
    ] = None,
    json_path: Annotated[Path | None, _Option("--json", help="Write every tick to this file.")] = None,
    plot: Annotated[Path | None, _Option(help="Write a picture: .svg, .html or .png.")] = None,
) -> None:
    """Decide again what the operator decided, from its decision log or (approximately) from Prometheus.

    From the log every decision must come out as recorded (exit status 1 and the first difference otherwise). With
    --set objective.ttft=1s, prefill.max=8, startup=180s, ... what would have been asked for stands beside it.

    Example: headrace replay /var/log/headrace --service default/chat --set objective.ttft=4s --plot replay.svg
    """
    change, now = change_of(settings or ()), SystemClock().now()
    check_plot(plot)
    span = Shown.of(start, end, now)
    if source is Source.FILE:
        result = _from_file(file, service, change, span)
    else:
        span = span.within(now - PROMETHEUS_S, now)
        result = _from_prometheus(from_prometheus(url, service, span.since, span.until, step), change, span)
    tell(result)
    if json_path is not None:
        json_path.write_text(json.dumps(as_data(result), indent=1), encoding="utf-8")
    if plot is not None:
        draw(result, plot)
    if result.exact and any(track.first for track in result.tracks.values()):
        raise typer.Exit(1)


def _from_file(file: Path | None, service: str | None, change: Change, span: Shown) -> Result:
    if file is None:
        raise typer.BadParameter("give a file of the decision log, its folder, or --from prometheus", param_hint="FILE")
    reader = Reader(file, service)
    result = Result(_decide(reader, change, span, exact=change == Change()), changed=change != Change())
    for line in reader.unreadable:
        typer.echo(f"not read: {line}", err=True)
    if not any(track.at for track in result.tracks.values()):
        _nothing(f"{file} holds no decision{f' of {service}' if service else ''} that can be replayed")
    _check_roles(change, result.tracks)
    return result


def _from_prometheus(entries: list[Entry], change: Change, span: Shown) -> Result:
    """Replayed twice where something is changed: how far the unchanged one agrees says what the other is worth."""
    steps = list(replay(entries))
    as_it_was = follow(steps, since=span.since, until=span.until, exact=False)
    if not as_it_was:
        _nothing(
            "Prometheus holds no decision of that time: the operator did not scale the service, or was not scraped"
        )
    _check_roles(change, as_it_was)
    changed = change != Change()
    tracks = _decide(beside(steps), change, span, exact=False) if changed else as_it_was
    agreement = {name: track.agreement() for name, track in as_it_was.items()}
    return Result(tracks, changed=changed, agreement=agreement)


def _decide(entries: Iterable[Entry], change: Change, span: Shown, *, exact: bool) -> dict[str, Track]:
    try:
        return follow(replay(entries, change), since=span.since, until=span.until, exact=exact)
    except ValueError as error:  # a bound beyond the other
        raise typer.BadParameter(str(error), param_hint=OPTION) from None


def _check_roles(change: Change, tracks: Mapping[str, Track]) -> None:
    if absent := {*change.least, *change.most} - {role for track in tracks.values() for role in track.roles}:
        raise typer.BadParameter(f"no service has a pool of role {', '.join(sorted(absent))}", param_hint=OPTION)


def _nothing(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(2)
