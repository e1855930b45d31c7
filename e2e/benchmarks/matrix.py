"""What is run: scenes (a window on a fleet under an objective) and the jobs of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from e2e.benchmarks import fleets
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.traces import Window, files, readable
from headrace.cli.simulate_files import UnreadableTrace

BOUNDS = ("static", "clairvoyant")
REPLICAS = 16  # of static in hindsight: with fewer, one replica is too large a step to tell policies apart
QUICK_WINDOWS, QUICK_REQUESTS = 6, 120_000.0
# Windows that would take more requests than this are shortened, so that one run of a policy stays below 15 s and 2
# minutes. The busiest open window takes 230,000 in the quick benchmark and 1.5 million in the full one.
QUICK_MOST, FULL_MOST = 400_000.0, 4_000_000.0
WINDOW_S = 3600.0  # in half an hour the first minutes, in which no policy knows anything, decide most cells
FULL_WINDOWS = 2  # of each long trace
# Of the open set, one of each kind; other directories: the first six that differ most in name (evenly spaced).
QUICK_TRACES = (
    "azure2023_code_first29min", "azure2023_conv_first29min", "azure2024_conv_mon_tue_1of20",
    "azure2024_code_fri_to_mon_1of20", "mooncake_conversation_first_half", "servegen_mm_image_12h_A",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scene:
    """A window of a trace on a fleet under an objective: what one load scale belongs to."""

    window: Window
    fleet: str
    objective: str
    replicas: int = REPLICAS
    topology: str = fleets.TOPOLOGY

    @property
    def key(self) -> str:
        """Stable name for caches."""
        part = self.window
        return f"{part.trace}+{part.length_s:.0f}s|{self.fleet}|{self.topology}|{self.objective}|{self.replicas}"


@dataclass(frozen=True, slots=True)
class Job:
    """One policy with one knob (or a bound with its target) in one cell with one seed."""

    scene: Scene
    delay_s: float
    policy: str
    knob: float  # of a bound: the attainment it is computed for
    seed: int

    @property
    def key(self) -> str:
        """Stable name: a finished row with it is not run again."""
        delay = "" if self.policy == "static" else f"{self.delay_s:g}"  # a static fleet starts nothing
        return f"{self.scene.key}|{delay}|{self.policy}|{self.knob:g}|{self.seed}"

    def columns(self) -> dict[str, Any]:
        """The part of the result row that says what was run."""
        scene = self.scene
        return {
            "key": self.key,
            "trace": scene.window.trace,
            "window": asdict(scene.window) | {"path": Path(scene.window.path).name},
            "fleet": scene.fleet,
            "topology": scene.topology,
            "objective": scene.objective,
            "static_replicas": scene.replicas,
            "delay_s": self.delay_s,
            "policy": self.policy,
            "knob": self.knob,
            "seed": self.seed,
        }


def quick_files(directory: Path) -> list[Path]:
    """The traces in the order in which quick takes them: the named ones of the open set, else evenly spaced by name."""
    found = files(directory)
    named = [path for path in found if path.stem in QUICK_TRACES]
    if len(named) < QUICK_WINDOWS <= len(found):
        named = [found[i * len(found) // QUICK_WINDOWS] for i in range(QUICK_WINDOWS)]
    return [*named, *(path for path in found if path not in named)]


def quick_scenes(directory: Path, replicas: int = REPLICAS) -> tuple[list[Scene], list[str]]:
    """Six windows, each under the first objective that is attainable at all, and why other files were left out."""
    windows, problems = readable(quick_files(directory), WINDOW_S, 1, QUICK_WINDOWS)
    scenes = []
    for part in windows:
        objective = next((o for o in fleets.OBJECTIVES if fleets.attainable(fleets.MEASURED, part, o)), None)
        if objective is None:
            problems.append(f"{part.trace}: an idle replica of {fleets.MEASURED} misses every objective too often")
            continue
        fleet = fleets.affordable(part, replicas, QUICK_REQUESTS, objective)
        try:
            scenes.append(Scene(fleets.shortened(fleet, part, replicas, QUICK_MOST), fleet, objective, replicas))
        except UnreadableTrace as error:
            problems.append(str(error))
    return scenes, problems


def full_scenes(
    directory: Path, objectives: Sequence[str], names: Sequence[str], replicas: int
) -> tuple[list[Scene], list[str]]:
    """Every window of every trace on every fleet under every objective that is attainable there; what was left out."""
    windows, problems = readable(files(directory), WINDOW_S, FULL_WINDOWS, len(files(directory)))
    scenes = []
    for part in windows:
        for name in names:
            for objective in objectives:
                if not fleets.attainable(name, part, objective):
                    problems.append(f"{part.trace}: an idle replica of {name} misses {objective} too often")
                    continue
                try:
                    short = fleets.shortened(name, part, replicas, FULL_MOST)
                except UnreadableTrace as error:
                    problems.append(str(error))
                    continue
                scenes.append(Scene(short, name, objective, replicas))
    return scenes, problems


def knobs(policy: str, winner: float | None, *, quick: bool) -> tuple[float, ...]:
    """Quick: the grid's winner alone (Headrace: the product's default, untuned). Full: grid and default."""
    known = entry(policy)
    if quick:
        return (known.default if policy == HEADRACE or winner is None else winner,)
    return tuple(sorted({*known.grid, known.default}))


def jobs(
    scenes: Iterable[Scene],
    delays: Sequence[float],
    policies: Sequence[str],
    winners: Mapping[str, Mapping[str, float]],
    *,
    seeds: int,
    quick: bool,
) -> list[Job]:
    """All jobs, bounds first in each cell. `winners`: by policy, by delay (see `winner`)."""
    made = []
    for scene in scenes:
        for delay_s in delays:
            for seed in range(seeds):
                targets = (0.95,) if quick else (0.95, 0.99)
                made += [Job(scene, delay_s, bound, target, seed) for bound in BOUNDS for target in targets]
                made += [
                    Job(scene, delay_s, policy, knob, seed)
                    for policy in policies
                    for knob in knobs(policy, winner(winners, policy, delay_s), quick=quick)
                ]
    return made


def winner(winners: Mapping[str, Mapping[str, float]], policy: str, delay_s: float) -> float | None:
    """The committed winner of a policy's grid at the nearest tuned delay (by ratio); None when it was never tuned."""
    by_delay = winners.get(policy)
    if not by_delay:
        return None
    return by_delay[min(by_delay, key=lambda d: abs(float(d) - delay_s) / (float(d) + delay_s))]
