"""Where `headrace replay` reads from: the decision log, or a Prometheus."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, isinf
from pathlib import Path

import orjson
import typer

from headrace.api.quantity import parse_duration
from headrace.autoscaler.rebuild import entries
from headrace.autoscaler.replay import Entry, from_line
from headrace.loops.decision_log import files_of
from headrace.loops.keys import Key
from headrace.prom.client import PrometheusDownError
from headrace.prom.history import MissingSeriesError, PrometheusHistory, Span

# Replayed before the first decision that is shown: the longest look-back (300 s), and as much again for the forecast.
WARM_UP_S = 600
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")  # of Kubernetes objects; nothing else may reach a query


@dataclass(frozen=True, slots=True)
class Shown:
    """The decisions to show, epoch seconds."""

    since: float = -inf
    until: float = inf

    @classmethod
    def of(cls, start: str | None, end: str | None, now: float) -> "Shown":
        """What the options say."""
        since = -inf if start is None else moment(start, now, "--start")
        until = inf if end is None else moment(end, now, "--end")
        if until <= since:
            raise typer.BadParameter("must be later than --start", param_hint="--end")
        return cls(since, until)

    def within(self, since: float, until: float) -> "Shown":
        """With bounds where there were none."""
        return Shown(since if isinf(self.since) else self.since, min(self.until, until))


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
            self.unreadable.append(f"{where}: {_why(error)}")
            return None


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the field {error} is missing: another version of Headrace wrote it, or it is no decision log"
    return f"{type(error).__name__}: {error}"


def from_prometheus(url: str | None, service: str | None, start: float, end: float, step: str) -> list[Entry]:
    """Entries from `start` less the warm-up to `end`, epoch seconds. Ends the command with a sentence."""
    if not url:
        raise typer.BadParameter("--from prometheus needs its address", param_hint="--url")
    try:
        seconds = parse_duration(step)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--step") from None
    if seconds < 1 or seconds % 1:
        raise typer.BadParameter("must be whole seconds, such as 5s", param_hint="--step")
    key, step_s = key_of(service), int(seconds)
    warm_up = -(-WARM_UP_S // step_s) * step_s
    span = Span(int(start) - warm_up, int(end), step_s)
    try:
        found = list(entries(PrometheusHistory(url).record(key, span)))
    except (PrometheusDownError, MissingSeriesError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    if found and found[-1].limits.tick_s != step_s:
        typer.echo(f"the operator decided every {found[-1].limits.tick_s:g} s: that --step comes closer", err=True)
    return found


def key_of(service: str | None) -> Key:
    """The service that an option names."""
    namespace, slash, name = (service or "").partition("/")
    if not slash or not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
        raise typer.BadParameter("--from prometheus needs one: NAMESPACE/NAME", param_hint="--service")
    return Key(namespace, name)


def moment(text: str, now: float, option: str) -> float:
    """Epoch seconds of `now`, `-30m`, an ISO 8601 time (UTC without an offset) or epoch seconds."""
    try:
        if text == "now":
            return now
        if text.startswith("-"):
            return now - parse_duration(text[1:])
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text)
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f'"{text}" is not a time; give one such as 2026-05-12T13:46:00Z, 1778593560, -30m or now'
        raise typer.BadParameter(message, param_hint=option) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
