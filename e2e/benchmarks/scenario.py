"""What a synthetic load is made of: levels over time, scatter, kinds of requests, prefixes. Read from JSON."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError

GRID_S = 0.1  # the rate is integrated on this grid: a hundredth of the shortest window that anything is judged in

Floats = npt.NDArray[np.float64]
NonNegative = Annotated[float, Field(ge=0.0)]
Points = Annotated[tuple[tuple[float, float], ...], Field(min_length=1)]  # (second, value), joined by straight lines


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Model):
    """`height` more from `start` to `end`, with edges of `ramp_s` inside."""

    kind: Literal["step"]
    start: NonNegative
    end: NonNegative
    height: float
    ramp_s: NonNegative = 0.0

    def at(self, t: Floats) -> Floats:
        """What it adds to the level at the times `t`."""
        edge = max(self.ramp_s, GRID_S)
        return self.height * np.clip(np.minimum((t - self.start) / edge, (self.end - t) / edge), 0.0, 1.0)


class Sine(_Model):
    """A wave of `amp` around what the others give."""

    kind: Literal["sine"]
    amp: float
    period_s: PositiveFloat
    phase_s: float = 0.0

    def at(self, t: Floats) -> Floats:
        """What it adds to the level at the times `t`."""
        return self.amp * np.sin(2.0 * np.pi * (t - self.phase_s) / self.period_s)


class Flash(_Model):
    """A crowd that comes within `rise_s` and goes with `decay_s`."""

    kind: Literal["flash"]
    start: NonNegative
    rise_s: NonNegative
    height: float
    decay_s: PositiveFloat

    def at(self, t: Floats) -> Floats:
        """What it adds to the level at the times `t`."""
        since = t - self.start
        rise = np.clip(since / max(self.rise_s, GRID_S), 0.0, 1.0)
        return self.height * rise * np.exp(-np.maximum(since, 0.0) / self.decay_s)


class Lengths(_Model):
    """Lognormal token counts."""

    mean: PositiveFloat
    cv: PositiveFloat
    min: PositiveInt
    max: PositiveInt

    def draw(self, rng: np.random.Generator, scale: Floats) -> npt.NDArray[np.int32]:
        """One length for each entry of `scale`, which multiplies the mean."""
        sigma2 = np.log1p(self.cv**2)
        tokens = scale * rng.lognormal(np.log(self.mean) - sigma2 / 2.0, np.sqrt(sigma2), len(scale))
        return np.clip(np.rint(tokens), self.min, self.max).astype(np.int32)


class Prefix(_Model):
    """The first `tokens` tokens are one of `groups` common prefixes, chosen by Zipf's law."""

    groups: PositiveInt
    tokens: PositiveInt
    zipf: NonNegative

    def draw(self, rng: np.random.Generator, number: int) -> npt.NDArray[np.int64]:
        """The groups of `number` requests."""
        weights = 1.0 / np.arange(1, self.groups + 1) ** self.zipf
        return rng.choice(self.groups, number, p=weights / weights.sum())


class RequestClass(_Model):
    """Requests of one kind: how many of all (a share of the weights, which may change over time) and how long."""

    name: str
    weight: NonNegative | Points
    isl: Lengths
    osl: Lengths
    scale_in: Points = ((0.0, 1.0),)
    scale_out: Points = ((0.0, 1.0),)
    prefix: Prefix | None = None

    def weights(self, t: Floats) -> Floats:
        """Its weight at the times `t`."""
        return curve(((0.0, self.weight),) if isinstance(self.weight, float) else self.weight, t)


class Scenario(_Model):
    """A load: level over time in units of UNIT_RPS, the scatter of arrivals, the kinds of requests."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # notes and statistics beside it do no harm

    name: str
    tests: str
    duration_s: PositiveFloat
    base: NonNegative
    terms: tuple[Annotated[Step | Sine | Flash, Field(discriminator="kind")], ...] = ()
    noise_sigma: NonNegative = 0.0
    noise_step_s: PositiveFloat = 5.0
    cv: PositiveFloat = 1.0  # of the times between arrivals, 1 is a Poisson process
    classes: Annotated[tuple[RequestClass, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]


class ScenarioFile(_Model):
    """A file of scenarios."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scenarios: Annotated[tuple[Scenario, ...], Field(min_length=1)]


def curve(points: Points, t: Floats) -> Floats:
    """Straight lines through `points`, level before and after them."""
    at, value = zip(*points, strict=True)
    return np.asarray(np.interp(t, at, value), np.float64)


def read(path: Path) -> tuple[Scenario, ...]:
    """The scenarios of a file. Raises ValueError that names the field."""
    try:
        return TypeAdapter(ScenarioFile).validate_json(path.read_bytes()).scenarios
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"{path}: " + "; ".join(lines)) from error
