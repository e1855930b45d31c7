"""The files of `headrace simulate validate`: measured runs, profile and probe; what is unusable is refused by name."""

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.simulator import calibrate, validate
from headrace.simulator.profiles import FleetProfile, catalogue_times, profile, profile_of_model
from headrace.simulator.times import EngineTimes

DEFAULT_PROFILE = "llama-8b-h100"
PROBES = ("pd_probe.json", "unified_probe.json")  # an idle prompt's TTFT, with disaggregation or without


class UnusableMeasurement(ValueError):  # noqa: N818 - reads as what happened
    """A measured file cannot be used; the message names it and the mend."""


@dataclass(frozen=True, slots=True)
class Serving:
    """One measured file, checked, and the times and fleet that it is compared with."""

    name: str
    content: dict[str, Any]
    fleet: FleetProfile
    times: EngineTimes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, from a gzip file too. Raises UnusableMeasurement."""
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        content = json.loads(text)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnusableMeasurement(f"{path}: not a whole gzip file ({error}); copy it again") from error
    except OSError as error:
        raise UnusableMeasurement(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # JSON and UTF-8 errors
        raise UnusableMeasurement(f"{path}: not JSON ({error}); write it again") from error
    if not isinstance(content, dict):
        raise UnusableMeasurement(f"{path}: holds a {type(content).__name__}, but a JSON object is needed")
    return content


def serving_runs(
    directory: Path, profile_name: str | None, accelerator: str | None, calibrate_path: Path | None
) -> tuple[list[Serving], list[str]]:
    """The runs of a directory that can be compared, and a note on each that cannot.

    Without `profile_name` the model that a file served picks the fleet. Raises UnusableMeasurement, UnusableProfile and
    LookupError (an unknown accelerator or fleet).
    """
    files = sorted([*directory.glob("serve_*.json.gz"), *directory.glob("serve_*.json")])
    if not files:
        raise UnusableMeasurement(
            f"--measured {directory}: no serve_*.json.gz in it; give the directory that holds the serving runs"
        )
    contents = {path: read_json(path) for path in files}
    for path, content in contents.items():
        try:
            validate.check(content)
        except validate.UnusableRun as error:
            raise UnusableMeasurement(f"{path}: {error}") from error
    if calibrate_path is not None:
        return _calibrated(contents, profile_name, calibrate_path, directory)
    assert accelerator is not None  # noqa: S101 - the command checked that one of the two is given
    return _predicted(contents, profile_name, accelerator)


def _calibrated(
    contents: dict[Path, dict[str, Any]], profile_name: str | None, path: Path, directory: Path
) -> tuple[list[Serving], list[str]]:
    content = read_json(path)
    model = validate.served_model(content)
    known = profile_of_model(model)
    if profile_name and known and known.name != profile_name:
        raise UnusableMeasurement(
            f"{path}: a profile of model {model!r}, but --profile is {profile_name}; use --profile {known.name}"
        )
    fleet = profile(profile_name) if profile_name else known or profile(DEFAULT_PROFILE)
    probe = next((directory / name for name in PROBES if (directory / name).is_file()), None)
    try:
        times = calibrate.fit(content, read_json(probe) if probe else None, fleet.model)
    except calibrate.UnusableProfile as error:
        raise UnusableMeasurement(f"{path}: {error}") from error
    kept, notes = [], []
    for file, measured in contents.items():
        other = validate.served_model(measured)
        if model and other and other != model:
            notes.append(f"{file.name}: left out, it served {other!r} and {path.name} is a profile of {model!r}")
        else:
            kept.append(Serving(_name(file), measured, fleet, times))
    if not kept:
        raise UnusableMeasurement(
            f"{path}: a profile of model {model!r}, but {_name_models(contents)}; give a profile of that model"
        )
    return kept, notes


def _predicted(
    contents: dict[Path, dict[str, Any]], profile_name: str | None, accelerator: str
) -> tuple[list[Serving], list[str]]:
    kept, notes = [], []
    for file, measured in contents.items():
        model = validate.served_model(measured)
        known = profile_of_model(model)
        if profile_name and known and known.name != profile_name:
            notes.append(f"{file.name}: left out, it served {model!r}; use --profile {known.name}")
            continue
        if not known and not profile_name:
            notes.append(f"{file.name}: model {model!r} is not known, taken as {DEFAULT_PROFILE}; give --profile")
        fleet = profile(profile_name) if profile_name else known or profile(DEFAULT_PROFILE)
        times = catalogue_times(accelerator, fleet.model, validate.kv_dtype(measured))
        kept.append(Serving(_name(file), measured, fleet, times))
    if not kept:
        raise UnusableMeasurement(
            f"--profile {profile_name}: {_name_models(contents)}; leave --profile out or name that model"
        )
    return kept, notes


def _name_models(contents: dict[Path, dict[str, Any]]) -> str:
    first = next(iter(contents))
    models = sorted({validate.served_model(measured) or "unknown" for measured in contents.values()})
    return f"{first.parent} holds runs of {', '.join(models)} (as {first.name})"


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".json")
