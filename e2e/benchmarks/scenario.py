"""What a synthetic load is made of: levels over time, scatter, kinds of requests, prefixes. Read from JSON."""

import itertools
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

GRID_S = 0.1  # the rate is integrated on this grid: a fifth of the shortest burst that the clairvoyant looks at

Floats = npt.NDArray[np.float64]
NonNegative = Annotated[float, Field(ge=0.0)]


def _in_order(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    if any(later[0] <= earlier[0] for earlier, later in itertools.pairwise(points)):
        raise ValueError("the seconds of its points must rise")
    return points


# (second, value), joined by straight lines
Points = Annotated[tuple[tuple[float, NonNegative], ...], Field(min_length=1), AfterValidator(_in_order)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Model):
    """`height` more from `start` to `end`, with edges of `ramp_s` inside."""

    kind: Literal["step"]
    start: NonNegative
    end: NonNegative
    height: float
    ramp_s: NonNegative = 0.0

    @model_validator(mode="after")
    def _ends_after_it_began(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end {self.end:g} is not after start {self.start:g}")
        return self

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

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max < self.min:
            raise ValueError(f"max {self.max} is below min {self.min}")
        return self

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

    @property
    def points(self) -> Points:
        """Its weight over time."""
        return ((0.0, self.weight),) if isinstance(self.weight, float) else self.weight

    def weights(self, t: Floats) -> Floats:
        """Its weight at the times `t`."""
        return curve(self.points, t)


class Scenario(_Model):
    """A load: level over time in units of UNIT_RPS, the scatter of arrivals, the kinds of requests."""

    model_config = ConfigDict(frozen=True, extra="allow")  # notes and statistics beside it do no harm, but are named

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]  # of the file
    tests: str
    duration_s: PositiveFloat
    base: NonNegative
    terms: tuple[Annotated[Step | Sine | Flash, Field(discriminator="kind")], ...] = ()
    noise_sigma: NonNegative = 0.0
    noise_step_s: PositiveFloat = 5.0
    cv: PositiveFloat = 1.0  # of the times between arrivals, 1 is a Poisson process
    classes: Annotated[tuple[RequestClass, ...], Field(min_length=1)]
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]  # the first is drawn

    @model_validator(mode="after")
    def _somebody_always_comes(self) -> Self:
        corners = {0.0, *(at for kind in self.classes for at, _ in kind.points)}  # between them a sum can't reach 0
        for at in sorted(corners):
            if sum(float(kind.weights(np.array([at]))[0]) for kind in self.classes) <= 0.0:
                raise ValueError(f"at {at:g} s no class has a weight")
        return self


class ScenarioFile(_Model):
    """A file of scenarios."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    scenarios: Annotated[tuple[Scenario, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [scenario.name for scenario in self.scenarios]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two scenarios would write one file: {', '.join(twice)}")
        return self


def curve(points: Points, t: Floats) -> Floats:
    """Straight lines through `points`, level before and after them."""
    at, value = zip(*points, strict=True)
    return np.asarray(np.interp(t, at, value), np.float64)


def read(path: Path) -> tuple[Scenario, ...]:
    """The scenarios of a file. Raises ValueError that names the field."""
    try:
        return ScenarioFile.model_validate_json(path.read_bytes()).scenarios
    except ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in e['loc']) or 'file'}: {e['msg']}" for e in error.errors()]
        raise ValueError(f"{path}: " + "; ".join(lines)) from error
