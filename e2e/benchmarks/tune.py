"""Winners of the baselines' grids, tuned on windows that are never judged."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from e2e.benchmarks.matrix import Job, Scene
from e2e.benchmarks.registry import HEADRACE, entry
from e2e.benchmarks.store import Row

WINNERS_PATH = Path(__file__).parent / "grid_winners.json"
SHORTFALL_PRICE = 20.0  # a point of attainment below 95 % costs as much as 20 % of a static fleet's GPU-hours


def winners() -> dict[str, dict[str, float]]:
    """The committed winners: by policy, by start-up delay in seconds."""
    found: dict[str, dict[str, float]] = json.loads(WINNERS_PATH.read_text(encoding="utf-8"))["winners"]
    return found


def tuning_jobs(scenes: Iterable[Scene], delays: Sequence[float], policies: Sequence[str]) -> list[Job]:
    """The whole grid of every baseline on the tuning windows, with the static fleet as the measure of cost."""
    made = []
    for scene in scenes:
        made.append(Job(scene, delays[0], "static", 0.95, 0))
        for delay_s in delays:
            for policy in policies:
                if policy != HEADRACE:
                    known = entry(policy)
                    made += [Job(scene, delay_s, policy, k, 0) for k in sorted({*known.grid, known.default})]
    return made


def choose(rows: Iterable[Row], target: float = 0.95) -> dict[str, dict[str, float]]:
    """Per policy and delay, the knob with the lowest mean price over the windows.

    Price: GPU-hours relative to the static fleet, plus 20 for all of the attainment missing to the target: 0.7 of the
    static fleet's hours at 93 % cost 0.7 + 20 x 0.02 = 1.1, dearer than the static fleet itself.
    """
    listed = list(rows)
    static = {_scene(row): row["gpu_hours"] for row in listed if row["policy"] == "static"}
    prices: dict[tuple[str, float], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in listed:
        if row["policy"] == "static" or _scene(row) not in static:
            continue
        short = max(target - row["attainment"], 0.0)
        price = row["gpu_hours"] / static[_scene(row)] + SHORTFALL_PRICE * short
        prices[row["policy"], row["delay_s"]][row["knob"]].append(price)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (policy, delay_s), by_knob in sorted(prices.items()):
        found[policy][f"{delay_s:g}"] = min(by_knob, key=lambda knob: (sum(by_knob[knob]) / len(by_knob[knob]), knob))
    return dict(found)


def write(found: Mapping[str, Mapping[str, float]], windows: Sequence[str]) -> None:
    """Write the committed file, with the windows that it was tuned on."""
    record = {
        "about": "Best-of-grid knob of each baseline by start-up delay, tuned on these windows, which are never judged."
        " Update: python -m e2e.benchmarks.autoscaling --tune",
        "windows": list(windows),
        "winners": {policy: dict(by_delay) for policy, by_delay in sorted(found.items())},
    }
    WINNERS_PATH.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _scene(row: Row) -> tuple[str, str, str]:
    return row["trace"], row["fleet"], row["objective"]
