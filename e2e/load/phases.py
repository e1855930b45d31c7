"""What load to offer: phases of a rate and of request sizes, and the arrivals that a seed makes of them. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

# Arrivals of a Poisson process have gaps without a bound; a rate this low would sleep for a minute and more.
MIN_RATE_RPS = 0.01


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of load: requests a second, their sizes, and how long at most."""

    name: str
    rate_rps: float
    duration_s: float
    prompt_tokens: int
    output_tokens: int
    shared_prefix_share: float = 0.0  # share of each prompt that all requests have in common, 0..1
    poisson: bool = True  # False: evenly spaced

    def __post_init__(self) -> None:
        if self.rate_rps < MIN_RATE_RPS:
            raise ValueError(f"phase {self.name}: rate must be at least {MIN_RATE_RPS} requests a second")
        if self.duration_s <= 0:
            raise ValueError(f"phase {self.name}: duration must be more than 0 s")
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(f"phase {self.name}: prompt and output must be at least 1 token")
        if not 0 <= self.shared_prefix_share <= 1:
            raise ValueError(f"phase {self.name}: shared must be between 0 and 1")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request to send `after_s` seconds into its phase."""

    number: int
    after_s: float


def arrivals(phase: Phase, seed: int, first: int = 0) -> Iterator[Arrival]:
    """The requests of a phase in order of time; the same seed gives the same ones. `first` numbers the first."""
    rng = Random(f"{seed}/{phase.name}")
    at_s = 0.0
    for number in count(first):
        at_s += rng.expovariate(phase.rate_rps) if phase.poisson else 1 / phase.rate_rps
        if at_s > phase.duration_s:
            return
        yield Arrival(number, at_s)


_FIELDS = {"rate", "duration", "prompt", "output", "shared", "spacing"}


def parse_phase(text: str, name: str) -> Phase:
    """A phase from `rate=4,duration=60,prompt=128,output=32[,shared=0.5][,spacing=even]`.

    ValueError names what is unknown, missing or out of bounds.
    """
    pairs = {key: value for key, _, value in (part.partition("=") for part in text.split(","))}
    if unknown := sorted(set(pairs) - _FIELDS):
        raise ValueError(f"phase {text!r}: unknown {', '.join(unknown)}; known: {', '.join(sorted(_FIELDS))}")
    if missing := sorted({"rate", "duration", "prompt", "output"} - set(pairs)):
        raise ValueError(f"phase {text!r}: {', '.join(missing)} missing")
    if pairs.get("spacing", "poisson") not in {"poisson", "even"}:
        raise ValueError(f"phase {text!r}: spacing must be poisson or even")
    return Phase(
        name=name,
        rate_rps=float(pairs["rate"]),
        duration_s=float(pairs["duration"]),
        prompt_tokens=int(pairs["prompt"]),
        output_tokens=int(pairs["output"]),
        shared_prefix_share=float(pairs.get("shared", "0")),
        poisson=pairs.get("spacing", "poisson") == "poisson",
    )
