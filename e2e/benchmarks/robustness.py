"""What Headrace loses when its readings, its model or its start-ups are worse than assumed. See docs/benchmarks.md.

`make bench-robustness` runs three cells of the quick benchmark in every variant, judges the gates, and goes on where it
was interrupted as long as the code is the same.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2e.benchmarks import fleets, robustness_report
from e2e.benchmarks.fingerprint import code_digest, file_digest
from e2e.benchmarks.matrix import REPLICAS, Scene, quick_scenes
from e2e.benchmarks.spread import find_scales, spread
from e2e.benchmarks.store import Store
from e2e.benchmarks.traces import DEFAULT_TRACES, files
from e2e.benchmarks.variants import CLIFF, REFERENCE, Variant, variants
from e2e.benchmarks.work import WARM_S, Scale, attainment_warm, scaled
from headrace.simulator.bounds import clairvoyant
from headrace.simulator.cell import Cell, late_last, mean_load, run_cell
from headrace.simulator.results import RunResult, Slo

TARGET = 0.95
CLAIRVOYANT = "clairvoyant"
SCENES = 3
# Of the open set: calm with long answers, bursts within a minute, heavy-tailed prompts with shared prefixes. Of other
# directories: the first three quick windows.
ROBUST_TRACES = ("azure2023_conv", "azure2024_code", "mooncake_conversation")


@dataclass(frozen=True, slots=True)
class Run:
    """One variant (or the clairvoyant at one start-up delay) in one scene with one seed."""

    scene: Scene
    variant: Variant
    seed: int
    code: str
    policy: str = "headrace"

    @property
    def key(self) -> str:
        """Stable name: a finished row of the same code is not run again."""
        return f"{self.scene.key}|{self.policy}|{self.variant}|{self.seed}|{self.code}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run, judge, report. 0 also when gates fail, and with a message when there are no traces; 1 when a run failed."""
    args = _arguments(argv)
    if not files(args.traces):
        print(f"bench-robustness skipped: no Parquet traces in {args.traces}. Give a directory of them with TRACES=.")
        return 0
    store = Store(args.out)
    scenes, problems = quick_scenes(args.traces, args.replicas)
    scenes = _chosen([s for s in scenes if not args.only or any(part in s.window.trace for part in args.only)])
    store.match({s.window.trace: file_digest(Path(s.window.path)) for s in scenes})
    failed = find_scales(scenes, store, args.jobs)
    unmet = [scene.key for scene in scenes if store.scales.get(scene.key) is None]
    todo = runs([s for s in scenes if s.key not in unmet], args.seeds, code_digest(), ablate=args.ablate)
    if args.variants:
        todo = [run for run in todo if run.variant.name in {"reference", *args.variants}]
    failed += _run(todo, store, args.jobs)
    rows = [store.rows[run.key] for run in todo if run.key in store.rows]
    problems += [f"{key}: static replicas attain {TARGET:.0%} at no load" for key in unmet]
    notes = [*(f"Left out: {problem}." for problem in problems), *(f"FAILED: {what}." for what in failed)]
    print(robustness_report.write(rows, args.out, notes))
    print(f"Written: {args.out}/robustness.json, robustness.md")
    return 1 if failed else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-robustness", description=__doc__)
    parser.add_argument("--traces", type=Path, default=DEFAULT_TRACES, help="directory of Parquet traces")
    parser.add_argument("--out", type=Path, default=Path("bench-out/robustness"))
    parser.add_argument("--ablate", action="store_true", help="also Headrace with one mechanism taken out at a time")
    parser.add_argument("--only", type=_words, default=[], help="parts of names of traces to keep")
    parser.add_argument("--variants", type=_words, default=[], help="only these, beside the reference")
    parser.add_argument("--replicas", type=int, default=REPLICAS, help="static replicas that the load is scaled to")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    known = [variant.name for variant in variants(ablate=True)]
    unknown = [name for name in args.variants if name not in known]
    if unknown:
        parser.error(f"variant {unknown[0]!r} is unknown. Known: {', '.join(known)}.")
    args.ablate = args.ablate or bool(args.variants)
    return args


def _words(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _chosen(scenes: Sequence[Scene]) -> list[Scene]:
    named = [s for s in scenes if any(part in s.window.trace for part in ROBUST_TRACES)]
    return (named if len(named) >= SCENES else list(scenes))[:SCENES]


def runs(scenes: Iterable[Scene], seeds: int, code: str, *, ablate: bool) -> list[Run]:
    """Every variant, and the clairvoyant at every delay of the cliff; the longest runs first."""
    made = []
    for scene in scenes:
        for seed in range(seeds):
            found = variants(ablate=ablate)
            made += [Run(scene, variant, seed, code, CLAIRVOYANT) for variant in (REFERENCE, *CLIFF)]
            made += [Run(scene, variant, seed, code) for variant in found]
    return sorted(made, key=lambda run: run.policy != CLAIRVOYANT)


def _run(todo: Sequence[Run], store: Store, workers: int) -> list[str]:
    def submit(pool: ProcessPoolExecutor, run: Run) -> "Future[dict[str, Any]]":
        at = store.scales[run.scene.key]
        assert at is not None
        return pool.submit(run_variant, run, at)

    missing = [run for run in todo if run.key not in store.rows]
    return spread("runs", workers, missing, submit=submit, done=lambda _run, row: store.add(row))


def run_variant(run: Run, at: Scale) -> dict[str, Any]:
    """One row."""
    began = time.perf_counter()
    scene, limit = run.scene, fleets.slo(run.scene.objective)
    base = Cell(fleets.fleet(scene.fleet), scene.topology, queue=late_last(limit), seed=run.seed)
    cell, horizon_s = run.variant.cell(base), scene.window.length_s
    arrivals = list(scaled(scene, at.factor, run.seed))
    initial = mean_load(cell.profile, cell.topology, arrivals, horizon_s)
    reached: bool | None = None
    calibrated: list[bool] = []
    if run.policy == CLAIRVOYANT:
        bound = clairvoyant(cell, arrivals, horizon_s, limit, TARGET, initial=initial)
        result, reached = bound.result, bound.reached
    else:
        policy = run.variant.policy(cell, limit)
        result = run_cell(cell, policy, arrivals, horizon_s, initial, clock=time.perf_counter)
        calibrated = [policy.model.prefill_valid, policy.model.decode_valid]
    summary = result.summary(limit)
    kept = ("requests", "gpu_hours", "attainment", "reversals_per_hour", "dropped", "failed_starts", "actions")
    return {
        "key": run.key,
        "trace": scene.window.trace,
        "fleet": scene.fleet,
        "objective": scene.objective,
        "policy": run.policy,
        "variant": run.variant.name,
        "about": run.variant.about,
        "delay_s": run.variant.delay_s,
        "seed": run.seed,
        "reached": reached,
        "calibrated": calibrated,
        **{name: summary[name] for name in kept},
        "attainment_warm": attainment_warm(result, limit),
        "ttft_p90_of_objective": ttft_of_objective(result, limit, 0.0),
        "ttft_p90_of_objective_warm": ttft_of_objective(result, limit, WARM_S),
        "wall_s": time.perf_counter() - began,
    }


def ttft_of_objective(result: RunResult, slo: Slo, since_s: float, quantile: float = 90.0) -> float | None:
    """The quantile of TTFT over its objective, of the finished requests that arrived after `since_s`.

    Objectives that grow with the prompt differ from request to request, so each TTFT is taken relative to its own.
    """
    records = result.records
    late = np.asarray(records.arrived) >= since_s
    if not late.any():
        return None
    limit = np.maximum(slo.ttft_s, slo.ttft_per_token_s * np.asarray(records.isl))
    return float(np.percentile((np.asarray(records.ttft) / limit)[late], quantile))


if __name__ == "__main__":
    sys.exit(main())
