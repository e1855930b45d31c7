"""`--set NAME=VALUE` of `headrace replay`: what to replay otherwise than it was."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches

import typer

from headrace.api.quantity import parse_duration
from headrace.api.roles import Role
from headrace.autoscaler.replay import Change

OPTION = "--set"


def _number(least: float, most: float = float("inf")) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError(f"must be {least:g} to {most:g}" if most < float("inf") else f"must be at least {least:g}")
        return value

    return parse


def _seconds(least: float) -> Callable[[str], float]:
    """A duration such as 500ms, or a bare number of seconds."""
    check = _number(least)

    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = parse_duration(text)
        return check(str(seconds))

    return parse


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


# name: (field of Change, parser, what it is)
NAMES = {
    "objective.ttft": ("ttft_s", _seconds(0.001), "the TTFT objective"),
    "objective.ttft-per-1k": ("ttft_per_1k_prompt_s", _seconds(0.0), "the TTFT objective per 1,000 prompt tokens"),
    "objective.tpot": ("tpot_s", _seconds(0.0001), "the TPOT objective"),
    "objective.percentile": ("percentile", _number(50, 99.9), "the share of requests that meet both"),
    "headroom": ("headroom", _number(0.1), "a factor on every need"),
    "gpu-budget": ("gpu_budget", _number(1), "accelerators for the whole service"),
    "startup": ("startup_s", _seconds(1), "as if every engine had needed so long to start"),
    "scale-down-window": ("scale_down_window_s", _seconds(0), "how long a need must stay away"),
    "max-starting": ("max_starting", _count, "engines that may start at once"),
}
BOUNDS = {f"{role}.{which}": (role, which) for role in Role for which in ("min", "max")}
KNOWN = (*NAMES, *BOUNDS)


def change_of(settings: Iterable[str]) -> Change:
    """The change that the settings describe. Raises typer.BadParameter with the name and the mend."""
    change = Change()
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().lower()
        if not equals:
            raise typer.BadParameter(f'"{setting}" has no value; write {name or "NAME"}=VALUE', param_hint=OPTION)
        if name not in KNOWN:
            raise typer.BadParameter(_unknown(name), param_hint=OPTION)
        try:
            change = _with(change, name, text.strip())
        except ValueError as error:
            raise typer.BadParameter(f"{name}: {_why(text, error)}", param_hint=OPTION) from None
    return change


def _with(change: Change, name: str, text: str) -> Change:
    if name in NAMES:
        field, parse, _ = NAMES[name]
        return replace(change, **{field: parse(text)})  # type: ignore[arg-type]  # each parser gives its field's type
    role, which = BOUNDS[name]
    if which == "min":
        return replace(change, least={**change.least, role: _count(text)})
    return replace(change, most={**change.most, role: _count(text)})


def _unknown(name: str) -> str:
    near = get_close_matches(name, KNOWN, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f'"{name}" is not a name; {hint}there are {", ".join(KNOWN)}'


def _why(text: str, error: ValueError) -> str:
    message = str(error)
    return f'"{text}" is not a number' if message.startswith(("could not convert", "invalid literal")) else message
